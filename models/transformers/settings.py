"""Settings of these kinds. The defaults suit data of the size of MovieLens 1M."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.base import Settings

__all__ = [
    "AttentionSettings",
    "ESASRecSettings",
    "GSASRecSettings",
    "HSTUSettings",
    "LRURecSettings",
    "SASRecSettings",
    "SequenceSettings",
]


class SequenceSettings(Settings):
    """What all of these kinds have: the size of the network, and its training."""

    width: int = Field(default=128, ge=2)
    """Number of channels of the embeddings and layers."""
    blocks: int = Field(default=2, ge=1)
    """Number of stacked blocks."""
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of activations dropped in each layer during training."""
    embedding_dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of the first block's inputs dropped during training."""
    interval_embedding: bool = False
    """Add to each event a learnt vector for the length of the interval after it, in 64 buckets from a second to ten years. The last
    interval ends at the request, so the model then knows the time of the request."""
    max_length: int = Field(default=200, ge=2)
    """Number of a user's latest events that the model reads, and the longest window in training."""
    batch_tokens: int = Field(default=8192, ge=2)
    """Most events of a training step (at least one full window)."""
    loss: Literal["cross_entropy", "sampled_softmax", "gbce"] = "cross_entropy"
    """Training loss: cross-entropy over the full catalogue, or a loss over sampled negatives: softmax, or gSASRec's calibrated
    binary cross-entropy (gbce)."""
    negatives: int = Field(default=256, ge=1)
    """Number of sampled negatives: per step for sampled_softmax, per event for gbce."""
    calibration: float = Field(default=0.75, ge=0.0, le=1.0)
    """Calibration parameter t of gbce: 0 is plain binary cross-entropy, 1 gives calibrated probabilities."""
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the target probability that is spread over all items. Applies to `cross_entropy`."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Step size of the optimizer, after the warm-up."""
    warm_up: float = Field(default=0.02, ge=0.0, lt=1.0)
    """Share of max_epochs in which the learning rate rises from 0 to its value."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: it stays, or falls like half a cosine to 0 at the end of max_epochs."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the weights per step, as a multiple of the learning rate. Biases and norms do not decay."""
    weight_averaging: float = Field(default=0.99, ge=0.0, lt=1.0)
    """Decay per step of the running average of the weights. The averaged weights are validated and kept. With 0, the raw weights
    are."""
    teachers: int = Field(default=0, ge=0, le=16)
    """Number of networks that are trained first, with the same settings and other seeds. The network then also learns the mean of what
    they predict, which ranks better than one network alone. Training takes longer by more than this factor, and always begins from
    scratch. Applies to `cross_entropy`."""
    teacher_share: float = Field(default=0.8, gt=0.0, le=1.0)
    """Share of the target probability that the teachers predict. The rest belongs to the event that came next."""
    student_dropout: float = Field(default=0.6, ge=0.0, le=1.0)
    """Dropout of the network that learns from teachers, as a share of theirs."""
    max_epochs: int = Field(default=100, ge=1)
    """Maximum number of passes over the train part."""
    patience: int = Field(default=10, ge=1)
    """Training stops after this number of epochs without a better valid NDCG@10."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for training. `auto` uses a GPU if there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products and activations during training. `auto` is bfloat16 on CUDA. Weights stay float32."""


class AttentionSettings(SequenceSettings):
    """What the kinds with attention have besides."""

    heads: int = Field(default=2, ge=1)
    """Attention heads of a block. The width is a multiple of it."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class SASRecSettings(AttentionSettings):
    """SASRec (arXiv 1808.09781): a causal transformer over a user's latest items, here with cross-entropy over the full catalogue."""

    norm: Literal["pre", "post"] = "pre"
    """Whether LayerNorm comes before each layer, or after it as in RecBole. Deep stacks train better with `pre`."""


class GSASRecSettings(SASRecSettings):
    """gSASRec (arXiv 2308.07192): SASRec's network, trained with many negatives and their calibrated loss."""

    loss: Literal["cross_entropy", "sampled_softmax", "gbce"] = "gbce"
    """Training loss: gBCE over sampled negatives as in the paper, or one of the others."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of the optimizer, after the warm-up."""
    patience: int = Field(default=20, ge=1)
    """Training stops after this number of epochs without a better valid NDCG@10. With gBCE, the scores of all items first fall together,
    and NDCG rises later than with cross-entropy."""


class ESASRecSettings(AttentionSettings):
    """eSASRec (arXiv 2508.06450): SASRec with LiGR's gated layers and SwiGLU."""

    heads: int = Field(default=4, ge=1)
    """Attention heads of a block. The width is a multiple of it."""
    expand: int = Field(default=4, ge=1)
    """Inner channels of a SwiGLU layer, as a multiple of width."""


class HSTUSettings(AttentionSettings):
    """HSTU (arXiv 2402.17152): pointwise attention with a bias for the time and the position of each event."""

    blocks: int = Field(default=3, ge=1)
    """Number of stacked layers."""
    time_bias: bool = True
    """Whether attention reads how long ago an event was, as seen at the time of the request. If off, the model does
    not know times."""
    position_bias: bool = True
    """Whether attention reads how many events ago an event was."""


class LRURecSettings(SequenceSettings):
    """LRURec (arXiv 2310.02367): linear recurrent units, whose state does not grow with the history."""

    decay_min: float = Field(default=0.8, gt=0, lt=1)
    """Smallest decay of a state per event at initialisation."""
    decay_max: float = Field(default=0.99, gt=0, lt=1)
    """Largest decay of a state per event at initialisation. A state that decays by .99 keeps a third after 100 events."""

    @model_validator(mode="after")
    def _decays_are_ordered(self) -> Self:
        if self.decay_min >= self.decay_max:
            raise ValueError(f"decay_min ({self.decay_min}) must be below decay_max ({self.decay_max})")
        return self
