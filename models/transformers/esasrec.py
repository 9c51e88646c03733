"""eSASRec (Tikhonovich et al. 2025, arXiv 2508.06450): SASRec's training with the layers of LiGR.

A LiGR layer (Borisyuk et al. 2025, arXiv 2502.03417) adds to its input what attention or a SwiGLU finds, times a gate that reads the
input. RecTools is the authors' code; our `CausalAttention` is its attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models.transformers.network import EMBEDDING_STD, CausalAttention, ItemNetwork, draw_matrices
from models.transformers.recommender import SequenceRecommender
from models.transformers.settings import ESASRecSettings

__all__ = ["ESASRec", "ESASRecNetwork"]


class SwiGLU(nn.Module):
    """A feed-forward layer with a gate (Shazeer 2020, arXiv 2002.05202), without biases."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.down(self.dropout(F.silu(self.gate(x)) * self.up(x)))
        return y


class Block(nn.Module):
    """Attention and SwiGLU, each as x + sigmoid(W x) * Layer(LN(x))."""

    def __init__(self, settings: ESASRecSettings) -> None:
        super().__init__()
        width, dropout = settings.width, settings.dropout
        self.layers = nn.ModuleList(
            [CausalAttention(width, settings.heads, dropout), SwiGLU(width, settings.expand * width, dropout)]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm, gate in zip(self.layers, self.norms, self.gates, strict=True):
            x = x + torch.sigmoid(gate(x)) * self.dropout(layer(norm(x)))
        return x


class ESASRecNetwork(ItemNetwork):
    """eSASRec. A position is counted from the start of the window, where RecTools counts from its end."""

    def __init__(self, n_items: int, settings: ESASRecSettings) -> None:
        super().__init__(n_items, settings)
        self.places = nn.Embedding(settings.max_length, settings.width)
        nn.init.normal_(self.places.weight, std=EMBEDDING_STD)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        draw_matrices(self.blocks)

    def forward(self, items: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.dropout(self.embedded(items, seconds) + self.places.weight[: items.shape[1]])
        for block in self.blocks:
            x = block(x)
        return x


class ESASRec(SequenceRecommender):
    """eSASRec as a `Recommender`."""

    name = "esasrec"
    settings_type = ESASRecSettings
    network_type = ESASRecNetwork
