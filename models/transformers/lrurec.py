"""LRURec (Yue et al. 2024, arXiv 2310.02367): linear recurrent units in place of attention.

A unit (Orvieto et al. 2023, arXiv 2303.06349) has a diagonal recurrence of complex numbers, whose decays and angles are learnt:

    h_t = lambda h_(t-1) + gamma (B x_t + b),  y_t = Re(C h_t + c),  lambda = exp(-nu + i theta)
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from models.transformers.network import EMBEDDING_STD, ItemNetwork
from models.transformers.recommender import SequenceRecommender
from models.transformers.settings import LRURecSettings

__all__ = ["LRURec", "LRURecNetwork"]

STATES = 2  # complex states of a unit, as a multiple of the width


class LinearRecurrentUnit(nn.Module):
    """The recurrence, with a residual connection and LayerNorm."""

    def __init__(self, settings: LRURecSettings) -> None:
        super().__init__()
        width, states = settings.width, STATES * settings.width
        low, high = settings.decay_min, settings.decay_max
        nu = -0.5 * (torch.rand(states) * (high**2 - low**2) + low**2).log()
        theta = torch.rand(states) * 2 * math.pi
        gamma = (1 - (-2 * nu).exp()).sqrt()
        self.rates = nn.Parameter(torch.stack([nu, theta, gamma]).log())
        self.rates._no_weight_decay = True  # type: ignore[attr-defined]
        # Complex products as products of real and imaginary parts.
        self.into, self.out = nn.Linear(width, 2 * states), nn.Linear(2 * states, width)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(settings.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nu, theta, gamma = self.rates.exp()
        drive = torch.complex(*self.into(x).float().chunk(2, dim=-1)) * gamma
        h = decayed_sums(drive, torch.complex(-nu, theta).exp())
        y: torch.Tensor = self.norm(x + self.dropout(self.out(torch.cat([h.real, h.imag], dim=-1))))
        return y


def decayed_sums(drive: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
    """Return h_t = decay h_(t-1) + drive_t from h = 0, for `drive` (B, L, P) and `decay` (P,).

    Each of log2(L) steps adds what lies twice as far back (Hillis and Steele 1986).
    """
    reach = 1
    while reach < drive.shape[1]:
        drive = drive + F.pad(drive[:, :-reach] * decay, (0, 0, reach, 0))
        decay = decay * decay
        reach *= 2
    return drive


class Block(nn.Module):
    """A recurrent unit and a feed-forward layer."""

    def __init__(self, settings: LRURecSettings) -> None:
        super().__init__()
        width, dropout = settings.width, settings.dropout
        self.unit = LinearRecurrentUnit(settings)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.unit(x)
        y: torch.Tensor = self.norm(x + self.feed_forward(x))
        return y


class LRURecNetwork(ItemNetwork):
    """LRURec. Each item also has a bias: the last number of its vector, which a hidden state meets with a 1."""

    def __init__(self, n_items: int, settings: LRURecSettings) -> None:
        super().__init__(n_items, settings)
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.norm = nn.LayerNorm(settings.width)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                for weight in (layer.weight, layer.bias):
                    nn.init.trunc_normal_(weight, std=EMBEDDING_STD, a=-2 * EMBEDDING_STD, b=2 * EMBEDDING_STD)

    def forward(self, items: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.dropout(self.embedded(items, seconds)))
        for block in self.blocks:
            x = block(x)
        return F.pad(x, (0, 1), value=1.0)

    def item_vectors(self) -> torch.Tensor:
        return torch.cat([super().item_vectors(), self.bias[:, None]], dim=1)


class LRURec(SequenceRecommender):
    """LRURec as a `Recommender`."""

    name = "lrurec"
    item_rows: ClassVar[dict[str, int]] = {"items.weight": 1, "bias": 0}
    settings_type = LRURecSettings
    network_type = LRURecNetwork
