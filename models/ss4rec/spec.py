"""What the registry of kinds must know about SS4Rec. It needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.kinds import ModelSpec, Parameter
from configs.settings import SS4RecSettings

__all__ = ["SPEC", "settings_of_model"]

SPACE = {
    "width": Parameter(choices=(64, 128, 192, 256)),
    "blocks": Parameter(low=1, high=3),
    "time_state": Parameter(choices=(16, 32, 64)),
    "relation_state": Parameter(choices=(8, 16, 32)),
    "dropout": Parameter(low=0.1, high=0.6, step=0.05),
    "embedding_dropout": Parameter(low=0.0, high=0.5, step=0.05),
    "two_norms": Parameter(choices=(True, False)),
    "interval": Parameter(choices=("seconds", "log1p", "learned")),
    "loss": Parameter(choices=("cross_entropy", "sampled_softmax", "gbce")),
    "label_smoothing": Parameter(low=0.0, high=0.2, step=0.05),
    "weight_averaging": Parameter(choices=(0.0, 0.99, 0.995, 0.998)),
    "learning_rate": Parameter(low=1e-3, high=1e-2, log=True),
    "batch_tokens": Parameter(choices=(1024, 2048, 4096, 8192, 16384, 32768)),
}
"""Default search space. It contains the defaults of SS4RecSettings: a search tries them first, so its best is at least as
good."""

SPEC = ModelSpec(
    kind="ss4rec",
    settings=SS4RecSettings,
    recommender="models.ss4rec:SS4Rec",
    serving="models.ss4rec:RecurrentSS4Rec",
    label="SS4Rec",
    colour="#1f6f8b",
    replicated=True,
    space=SPACE,
    not_searched={
        "replicas": "replicas sets where a model is trained, not what it learns, and a trial always has one. To train the best "
        "model with several, set models.ss4rec.replicas"
    },
)

NOT_STORED = {"interval_embedding": False}
"""Parts of the network that models were trained without before the setting existed. Its default is another one now."""


def settings_of_model(stored: Mapping[str, Any], device: str | None = None) -> SS4RecSettings:
    """Return the settings that are stored with a model, also of an earlier release.

    Raises:
        ValidationError: if a setting is unknown or wrong.
    """
    return SS4RecSettings(**{**NOT_STORED, **stored, **({} if device is None else {"device": device})})
