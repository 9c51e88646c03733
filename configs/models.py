"""The settings of each model, with their one default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from configs.base import Settings

__all__ = ["ModelSettings", "NCFSettings", "PopularitySettings", "SS4RecSettings"]


class SS4RecSettings(Settings):
    """SS4Rec (arXiv 2502.08132): a time-aware (S5) and a relation-aware (Mamba) state space layer in each block."""

    width: int = Field(default=64, ge=4)
    """Channels of embeddings and layers."""
    blocks: int = Field(default=2, ge=1)
    """Blocks, one after the other."""
    time_state: int = Field(default=32, ge=1)
    """Complex states of the time-aware layer."""
    relation_state: int = Field(default=16, ge=1)
    """States per channel of the relation-aware layer."""
    conv_width: int = Field(default=4, ge=1, le=4)
    """Events that the relation-aware layer's convolution sees."""
    expand: int = Field(default=2, ge=1)
    """Inner channels of the relation-aware layer, in multiples of width."""
    dropout: float = Field(default=0.4, ge=0.0, lt=1.0)
    """Share of activations dropped in each layer while training."""
    embedding_dropout: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Share of embeddings dropped while training."""
    two_norms: bool = True
    """One LayerNorm after each layer; off, one is shared by both places as in the authors' code."""
    step_min: float = Field(default=0.001, gt=0)
    """Least learned step of the time-aware layer at initialisation, per second of interval."""
    step_max: float = Field(default=0.1, gt=0)
    """Greatest one, likewise."""
    interval: Literal["seconds", "log1p", "learned", "none"] = "seconds"
    """What the time-aware layer sees of an interval; `learned` lies between seconds and log1p, `none` sees no time."""
    user_features: bool = False
    """Add embeddings of the user's gender, age group and occupation to each event's; the dataset's users must have some."""
    layers: Literal["both", "time", "relation"] = "both"
    """Layers of a block; one kind alone is for ablations."""
    max_length: int = Field(default=100, ge=2)
    """Events of a user that one window holds."""
    batch_tokens: int = Field(default=1024, ge=2)
    """Events per training step (at least one whole window), shared among the GPUs that train together."""
    shuffle_ties: bool = True
    """Draw the order of a user's events of one second anew each epoch, where the protocol drew it (not loo-recbole)."""
    loss: Literal["cross_entropy", "sampled_softmax", "gbce"] = "cross_entropy"
    """Over the whole catalogue, or over sampled negatives: softmax, or gSASRec's calibrated binary cross-entropy."""
    negatives: int = Field(default=256, ge=1)
    """Negatives of the sampled losses: shared by a step (sampled_softmax), or of each event (gbce)."""
    calibration: float = Field(default=0.75, ge=0.0, le=1.0)
    """gbce's t: 0 is plain binary cross-entropy, 1 gives calibrated probabilities."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Step size of the optimizer."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the weights per step, in multiples of the learning rate."""
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the target spread over all items, with `cross_entropy`."""
    weight_averaging: float = Field(default=0.99, ge=0.0, lt=1.0)
    """Decay per step of the running average of the weights that is validated and kept; 0 keeps the raw weights."""
    max_epochs: int = Field(default=14, ge=1)
    """Passes over the train part after which training stops at the latest."""
    patience: int = Field(default=4, ge=1)
    """Evaluations without a better valid NDCG@10 after which training stops."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is a GPU where there is one."""
    replicas: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Processes of this machine that train the network together, each on a share of every step: one for each GPU, or on the CPU
    with a share of the cores. auto is every GPU that torch sees, and 1 on the CPU. Each run of a comparison has as many; trials
    of a search and retraining for an audit have one."""
    scan: Literal["auto", "reference", "compiled", "mamba-ssm"] = "auto"
    """Backend of the recurrences; auto is compiled: numba on the CPU, Triton on CUDA. mamba-ssm needs that package."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products and activations while training; auto is bfloat16 on CUDA. Weights and recurrences stay float32."""
    debug: bool = False
    """Check every module's output for non-finite values and name the first that has one."""

    @field_validator("replicas", mode="before")
    @classmethod
    def _is_a_number_or_auto(cls, given: Any) -> Any:  # in one sentence, and not one for each type that it may have
        if given != "auto" and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
            raise ValueError("it is auto, or a whole number from 1 on")
        return given

    @model_validator(mode="after")
    def _steps_are_ordered(self) -> SS4RecSettings:
        if self.step_min >= self.step_max:
            raise ValueError(f"step_min ({self.step_min}) must be below step_max ({self.step_max})")
        return self


class NCFSettings(Settings):
    """RecBole's NeuMF (arXiv 1708.05031), the baseline without order or time."""

    mf_width: int = Field(default=32, ge=1)
    """Width of the embeddings of the matrix factorisation part."""
    mlp_width: int = Field(default=16, ge=1)
    """Width of the embeddings of the multi-layer part."""
    mlp_hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(32, 16), min_length=1)
    """Widths of the hidden layers."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations dropped while training."""
    negatives: int = Field(default=4, ge=1)
    """Sampled negatives per interaction."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Step size of the optimizer."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the weights, added to the gradient."""
    batch_size: int = Field(default=4096, ge=1)
    """Interactions per training step, each with its negatives."""
    max_epochs: int = Field(default=40, ge=1)
    """Passes over the train part after which training stops at the latest."""
    patience: int = Field(default=5, ge=1)
    """Epochs without a better valid NDCG@10 after which training stops. NeuMF first ranks by popularity for some epochs; a
    shorter patience can stop it there, and the gate would compare with a baseline that has not learnt."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is a GPU where there is one."""


class PopularitySettings(Settings):
    """Most interacted items first: the floor that every model must beat."""


class ModelSettings(Settings):
    """The candidates of a run. A baseline set to null is not trained."""

    ss4rec: SS4RecSettings = SS4RecSettings()
    ncf: NCFSettings | None = NCFSettings()
    popularity: PopularitySettings = PopularitySettings()
