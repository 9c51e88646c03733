"""HSTU (Zhai et al. 2024, arXiv 2402.17152): pointwise attention that reads how long ago each event was.

A layer (equations 1 to 3) projects its input to u, v, q and k, and computes

    Y(X) = W (LN(A V) * U),  A = silu(Q K' + bias(position) + bias(time)) / max_length

without a softmax, so that attention keeps how many events speak for an item. The bias of time of event j, as seen by event i, is
that of the seconds from j to the event after i, whose item is predicted: when serving, to the request.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models.transformers.network import EMBEDDING_STD, ItemNetwork, draw_matrices, later
from models.transformers.recommender import SequenceRecommender
from models.transformers.settings import HSTUSettings

__all__ = ["HSTU", "HSTUNetwork"]

TIME_BUCKETS = 129
LOG_RATIO = 0.301  # a bucket is 1.35 times as long as the one before, as in the authors' code
NORM_EPSILON = 1e-6


class RelativeBias(nn.Module):
    """What a layer adds to the products of queries and keys: learnt numbers for distances in events and in seconds."""

    def __init__(self, settings: HSTUSettings) -> None:
        super().__init__()
        self.distances = nn.Embedding(settings.max_length, 1) if settings.position_bias else None
        self.ages = nn.Embedding(TIME_BUCKETS, 1) if settings.time_bias else None
        for table in (self.distances, self.ages):
            if table is not None:
                nn.init.normal_(table.weight, std=EMBEDDING_STD)

    def forward(self, ages: torch.Tensor) -> torch.Tensor:
        """Return the bias (B, L, L), or one that broadcasts to it. `ages` (B, L, L) are the buckets of `age_buckets`."""
        bias = torch.zeros(1, 1, device=ages.device)
        if self.distances is not None:
            place = torch.arange(ages.shape[1], device=ages.device)
            bias = self.distances((place[:, None] - place).clamp_min(0))[..., 0]
        return bias if self.ages is None else bias + self.ages(ages)[..., 0]


def age_buckets(seconds: torch.Tensor) -> torch.Tensor:
    """Return the bucket (B, L, L) of the seconds from event j (last) to the event after event i.

    `seconds` (B, L) are from each event to the next one.
    """
    # As float32, sums over years would lose the seconds.
    following = seconds.clamp_min(0).long().cumsum(1)
    own = F.pad(following, (1, 0))[:, :-1]
    ages = (following[:, :, None] - own[:, None, :]).clamp_min(1)
    return (ages.float().log() / LOG_RATIO).long().clamp_max(TIME_BUCKETS - 1)


class Layer(nn.Module):
    """One layer, with a residual connection."""

    def __init__(self, settings: HSTUSettings) -> None:
        super().__init__()
        width = settings.width
        self.heads, self.max_length = settings.heads, settings.max_length
        self.input_norm, self.output_norm = (nn.LayerNorm(width, eps=NORM_EPSILON) for _ in range(2))
        self.into, self.out = nn.Linear(width, 4 * width, bias=False), nn.Linear(width, width)
        self.bias = RelativeBias(settings)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: torch.Tensor, ages: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """`hidden` (L, L) says which columns a row must not see."""
        batch, length, width = x.shape
        u, v, q, k = F.silu(self.into(self.input_norm(x))).chunk(4, dim=-1)
        v, q, k = (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in (v, q, k))
        scores = q @ k.transpose(-1, -2) + self.bias(ages).unsqueeze(-3)
        weights = (F.silu(scores) / self.max_length).masked_fill(hidden, 0.0)
        found = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(batch, length, width)
        y: torch.Tensor = x + self.out(self.dropout(u * self.output_norm(found)))
        return y


class HSTUNetwork(ItemNetwork):
    """HSTU. A position is counted from the start of the window."""

    def __init__(self, n_items: int, settings: HSTUSettings) -> None:
        super().__init__(n_items, settings)
        self.places = nn.Embedding(settings.max_length, settings.width)
        nn.init.normal_(self.places.weight, std=EMBEDDING_STD)
        self.layers = nn.ModuleList(Layer(settings) for _ in range(settings.blocks))
        draw_matrices(self.layers)

    def forward(self, items: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.dropout(self.embedded(items, seconds) + self.places.weight[: items.shape[1]])
        ages, hidden = age_buckets(seconds), later(items.shape[1], items.device)
        for layer in self.layers:
            x = layer(x, ages, hidden)
        return x


class HSTU(SequenceRecommender):
    """HSTU as a `Recommender`."""

    name = "hstu"
    settings_type = HSTUSettings
    network_type = HSTUNetwork
    reads_time = True
