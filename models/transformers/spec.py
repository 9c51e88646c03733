"""What the registry of kinds must know about these. It needs no torch."""

from __future__ import annotations

from configs.kinds import ModelSpec, Parameter
from models.transformers.settings import ESASRecSettings, GSASRecSettings, HSTUSettings, LRURecSettings, SASRecSettings

__all__ = ["ESASREC", "GSASREC", "HSTU_SPEC", "LRUREC", "SASREC"]

SPACE = {
    "width": Parameter(choices=(64, 128, 192, 256)),
    "blocks": Parameter(low=1, high=4),
    "dropout": Parameter(low=0.1, high=0.6, step=0.05),
    "embedding_dropout": Parameter(low=0.0, high=0.5, step=0.05),
    "interval_embedding": Parameter(choices=(False, True)),
    "loss": Parameter(choices=("cross_entropy", "sampled_softmax", "gbce")),
    "label_smoothing": Parameter(low=0.0, high=0.2, step=0.05),
    "weight_averaging": Parameter(choices=(0.0, 0.99, 0.995, 0.998)),
    "learning_rate": Parameter(low=3e-4, high=1e-2, log=True),
    "batch_tokens": Parameter(choices=(1024, 2048, 4096, 8192, 16384, 32768)),
}
"""Search space of every kind here: that of SS4Rec, as far as the settings are the same."""

HEADS = {"heads": Parameter(choices=(1, 2, 4, 8))}

SASREC = ModelSpec(
    kind="sasrec",
    settings=SASRecSettings,
    recommender="models.transformers:SASRec",
    label="SASRec",
    colour="#3f7cac",
    space=SPACE | HEADS,
)

GSASREC = ModelSpec(
    kind="gsasrec",
    settings=GSASRecSettings,
    recommender="models.transformers:GSASRec",
    label="gSASRec",
    colour="#7a5195",
    space=SPACE
    | HEADS
    | {"negatives": Parameter(choices=(64, 128, 256, 512)), "calibration": Parameter(low=0.0, high=1.0, step=0.05)},
)

ESASREC = ModelSpec(
    kind="esasrec",
    settings=ESASRecSettings,
    recommender="models.transformers:ESASRec",
    label="eSASRec",
    colour="#2a9d8f",
    space=SPACE | HEADS,
)

HSTU_SPEC = ModelSpec(
    kind="hstu",
    settings=HSTUSettings,
    recommender="models.transformers:HSTU",
    label="HSTU",
    colour="#c8553d",
    space=SPACE | HEADS | {"blocks": Parameter(low=2, high=8)},
)

LRUREC = ModelSpec(
    kind="lrurec",
    settings=LRURecSettings,
    recommender="models.transformers:LRURec",
    label="LRURec",
    colour="#6a994e",
    space=SPACE,
)
