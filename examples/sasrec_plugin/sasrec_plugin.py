"""What recsys must know about SASRec. It needs no torch, so commands that only read settings start at once."""

from pydantic import Field

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter


class SASRecSettings(Settings):
    """SASRec (arXiv 1808.09781), a causal transformer over a user's latest items, with cross-entropy over the full catalogue."""

    width: int = Field(default=64, ge=1)
    """Width of the embeddings and layers. A multiple of `heads`."""
    blocks: int = Field(default=2, ge=1)
    """Number of transformer blocks."""
    heads: int = Field(default=2, ge=1)
    """Attention heads of a block."""
    max_length: int = Field(default=50, ge=1)
    """Number of a user's latest items that the model reads."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of activations dropped during training."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of Adam."""
    batch_size: int = Field(default=128, ge=1)
    """Windows per training step."""
    max_epochs: int = Field(default=60, ge=1)
    """Maximum number of passes over the train part."""
    patience: int = Field(default=5, ge=1)
    """Training stops after this number of epochs without a better valid NDCG@10."""


SPEC = ModelSpec(
    kind="my_sasrec",
    settings=SASRecSettings,
    recommender="sasrec_model:SASRec",
    label="My SASRec",
    space={
        "width": Parameter(choices=(32, 64, 128)),
        "blocks": Parameter(low=1, high=3),
        "dropout": Parameter(low=0.1, high=0.6, step=0.1),
        "learning_rate": Parameter(low=3e-4, high=1e-2, log=True),
    },
)
