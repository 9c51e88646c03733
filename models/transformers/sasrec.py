"""SASRec (Kang and McAuley 2018, arXiv 1808.09781): blocks of causal attention and a feed-forward layer.

The paper trains with one negative for each positive. That loss, and not the network, made SASRec look weak (Klenitskiy and
Vasilev 2023, arXiv 2309.07602), so cross-entropy over the catalogue is the default here.
"""

from __future__ import annotations

import torch
from torch import nn

from models.transformers.network import EMBEDDING_STD, CausalAttention, ItemNetwork, draw_matrices
from models.transformers.recommender import SequenceRecommender
from models.transformers.settings import SASRecSettings

__all__ = ["SASRec", "SASRecNetwork"]


class Block(nn.Module):
    """Attention and a feed-forward layer (III-B), each with a residual connection and LayerNorm."""

    def __init__(self, settings: SASRecSettings) -> None:
        super().__init__()
        width, dropout = settings.width, settings.dropout
        self.pre = settings.norm == "pre"
        self.attention = CausalAttention(width, settings.heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip((self.attention, self.feed_forward), self.norms, strict=True):
            x = x + self.dropout(layer(norm(x))) if self.pre else norm(x + self.dropout(layer(x)))
        return x


class SASRecNetwork(ItemNetwork):
    """SASRec. A position is counted from the start of the window, so a longer history changes no earlier hidden state."""

    def __init__(self, n_items: int, settings: SASRecSettings) -> None:
        super().__init__(n_items, settings)
        self.places = nn.Embedding(settings.max_length, settings.width)
        nn.init.normal_(self.places.weight, std=EMBEDDING_STD)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(settings.width)
        self.pre = settings.norm == "pre"
        draw_matrices(self.blocks)

    def forward(self, items: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        x = self.embedded(items, seconds) + self.places.weight[: items.shape[1]]
        x = self.dropout(x if self.pre else self.norm(x))
        for block in self.blocks:
            x = block(x)
        hidden: torch.Tensor = self.norm(x) if self.pre else x
        return hidden


class SASRec(SequenceRecommender):
    """SASRec as a `Recommender`."""

    name = "sasrec"
    settings_type = SASRecSettings
    network_type = SASRecNetwork
