"""The SS4Rec network: item embedding, blocks of a time-aware and a relation-aware layer, tied output."""

from __future__ import annotations

import torch
from torch import nn

from configs.settings import SS4RecSettings
from models.ss4rec.dropout import ByteDropout
from models.ss4rec.relation_aware import RelationAwareLayer
from models.ss4rec.scan import Backend
from models.ss4rec.time_aware import TimeAwareLayer

__all__ = ["SS4RecNetwork"]


class Block(nn.Module):
    """h = LN(x + Dropout(S5(x, dt))), x' = LN(h + Dropout(Mamba(h))): post-norm residuals, as in the authors' code."""

    def __init__(self, settings: SS4RecSettings) -> None:
        super().__init__()
        width = settings.width
        self.time_aware = TimeAwareLayer(width, settings.time_state, settings.step_min, settings.step_max)
        self.relation_aware = RelationAwareLayer(width, settings.relation_state, settings.conv_width, settings.expand)
        self.dropout = ByteDropout(settings.dropout)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.relation_norm = nn.LayerNorm(width, eps=1e-12) if settings.two_norms else self.norm

    def forward(self, x: torch.Tensor, intervals: torch.Tensor, backend: Backend) -> torch.Tensor:
        h = self.norm(x + self.dropout(self.time_aware(x, intervals, backend=backend)[0]))
        out: torch.Tensor = self.relation_norm(h + self.dropout(self.relation_aware(h, backend=backend)[0]))
        return out


class SS4RecNetwork(nn.Module):
    """Items are 1..n_items; 0 pads on the right, where a causal model cannot see it."""

    def __init__(self, n_items: int, settings: SS4RecSettings) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, settings.width, padding_idx=0)
        nn.init.normal_(self.items.weight, std=0.02)
        with torch.no_grad():
            self.items.weight[0].zero_()
        self.dropout = ByteDropout(settings.embedding_dropout)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))

    def forward(self, items: torch.Tensor, intervals: torch.Tensor, backend: Backend) -> torch.Tensor:
        """`items` (B, L) int64, `intervals` (B, L) seconds from each event to the next one or to the request.
        Returns the hidden state after each event, (B, L, width)."""
        x: torch.Tensor = self.dropout(self.items(items))
        for block in self.blocks:
            x = block(x, intervals, backend)
        return x

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., n_items): the output is tied to the embedding, without bias."""
        logits: torch.Tensor = hidden @ self.items.weight[1:].T
        return logits
