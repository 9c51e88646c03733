"""What the networks of this package share: the vectors of items, the vector of an interval, and causal attention.

A network reads padded rows. Items are 1..n_items, and 0 fills a row up after its last event. No position reads a later one, so
what fills a row up never reaches an event.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from models.intervals import IntervalEmbedding
from models.transformers.settings import SequenceSettings

__all__ = ["CausalAttention", "ItemNetwork", "draw_matrices", "later"]

EMBEDDING_STD = 0.02


class ItemNetwork(nn.Module):
    """A network whose scores are the products of a hidden state and the items' vectors."""

    def __init__(self, n_items: int, settings: SequenceSettings) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, settings.width, padding_idx=0)
        nn.init.normal_(self.items.weight, std=EMBEDDING_STD)
        with torch.no_grad():
            self.items.weight[0].zero_()
        self.interval_embedding = IntervalEmbedding(settings.width) if settings.interval_embedding else None
        self.dropout = nn.Dropout(settings.embedding_dropout)

    @abstractmethod
    def forward(self, items: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        """Return the hidden state (B, L, H) after each event.

        Args:
            items: (B, L) int64.
            seconds: (B, L) float32 from each event to the next one, or to the request.
        """

    def item_vectors(self) -> torch.Tensor:
        """Return the vectors (n_items, H) whose products with a hidden state are the scores."""
        return self.items.weight[1:]

    def embedded(self, items: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        """Return the vectors (B, L, width) of events: the item's, and that of the interval after it."""
        vectors: torch.Tensor = self.items(items)
        return vectors if self.interval_embedding is None else vectors + self.interval_embedding(seconds)


class CausalAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, 3.2) in which a position sees itself and earlier ones.

    It is written out: at these lengths a fused kernel gains little, and the gradients of torch's differ from run to run on CUDA.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.into(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5  # (B, heads, L, L)
        weights = self.dropout(scores.masked_fill(later(length, x.device), -torch.inf).softmax(-1))
        y: torch.Tensor = self.out((weights @ v).transpose(1, 2).reshape(batch, length, width))
        return y


def later(length: int, device: torch.device) -> torch.Tensor:
    """Return (L, L) booleans: whether the column is a later position than the row."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


def draw_matrices(module: nn.Module) -> None:
    """Draw the initial weights of a module's linear layers by Glorot and Bengio (2010). Their biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
