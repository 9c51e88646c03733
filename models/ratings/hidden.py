"""What a sequential network knows of a user and an item: its hidden state, the vector of the item, and their products."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from models.ratings.head import Features
from models.recommender import IntArray, Sequences
from models.sequences import Histories, Vocabulary, training_windows

__all__ = ["Hidden", "event_features", "pair_features"]

EVENTS_AT_ONCE = 1 << 15
Hidden = Callable[[Histories, IntArray], torch.Tensor]
"""Returns the hidden states (T, H) after each token of some windows, given the rows of the windows' users (W,)."""


def pair_features(hidden: torch.Tensor, items: torch.Tensor) -> Features:
    """Return the features (n, 3H) of users in hidden states (n, H) and of the vectors (n, H) of items."""
    found: Features = torch.cat([hidden, items, hidden * items], dim=1).float().cpu().numpy()
    return found


def event_features(
    train: Sequences, vocabulary: Vocabulary, vectors: torch.Tensor, max_length: int, hidden: Hidden
) -> Iterator[tuple[IntArray, Features]]:
    """Yield the train events in blocks, with the features that were known before each.

    A user's first event has no hidden state. The windows are those of the training, with their cuts in a fixed place.

    Args:
        train: The events.
        vocabulary: The catalogue.
        vectors: (n_items + 1, H) of the items; row 0 is zero.
        max_length: Most events of a window.
        hidden: The network.
    """
    items, times = vocabulary.indices(train.item_ids), train.timestamps
    device, rows = vectors.device, train.row_of_event
    firsts = train.offsets[:-1][train.lengths > 0]
    for begin in range(0, len(firsts), EVENTS_AT_ONCE):
        some = firsts[begin : begin + EVENTS_AT_ONCE]
        of_items = vectors[torch.from_numpy(items[some]).to(device)]
        yield some, pair_features(torch.zeros_like(of_items), of_items)
    windows = training_windows(train, max_length)
    ends = np.cumsum(windows.lengths)
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, before + EVENTS_AT_ONCE, side="right")), first + 1)
        begins, lengths = windows.begins[first:last], windows.lengths[first:last]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        read = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(begins, lengths)
        intervals = torch.from_numpy((times[read + 1] - times[read]).astype(np.float32))
        tokens = Histories(torch.from_numpy(items[read]), intervals, torch.from_numpy(offsets), torch.from_numpy(times[read + 1]))
        states = hidden(tokens.to(device), rows[begins])
        yield read + 1, pair_features(states.float(), vectors[torch.from_numpy(items[read + 1]).to(device)])
        first = last
