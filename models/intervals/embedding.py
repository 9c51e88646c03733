"""A learnt vector for the length of an interval."""

from __future__ import annotations

import torch
from torch import nn

from models.intervals.buckets import BUCKETS, EDGES

__all__ = ["IntervalEmbedding"]

STD = 0.02


class IntervalEmbedding(nn.Module):
    """A learnt vector for each bucket of the seconds after an event."""

    edges: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(BUCKETS, width)
        nn.init.normal_(self.vectors.weight, std=STD)
        self.register_buffer("edges", torch.from_numpy(EDGES), persistent=False)

    def forward(self, intervals: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.vectors(torch.bucketize(intervals.contiguous(), self.edges, right=True))
        return found
