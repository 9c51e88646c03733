"""The hidden state after the last event of each history."""

from __future__ import annotations

import torch

from models.recommender import IntArray
from models.transformers.network import ItemNetwork
from models.windows import Segments

__all__ = ["last_hidden"]

TOKENS = {"cpu": 1 << 14, "cuda": 1 << 17}  # padded tokens processed at once


def last_hidden(
    network: ItemNetwork, items: torch.Tensor, seconds: torch.Tensor, offsets: IntArray, max_length: int
) -> torch.Tensor:
    """Return the hidden state (R, H) after each request's last event, as float32, or zero if it has no events.

    `offsets` (R + 1,) are on the host and split the tokens (T,) on the device. As many requests are processed at once as fit.
    """
    rows = max(1, TOKENS[items.device.type] // max_length)
    hidden = torch.zeros(len(offsets) - 1, network.item_vectors().shape[1], device=items.device)
    for first in range(0, len(hidden), rows):
        begin, end = int(offsets[first]), int(offsets[min(first + rows, len(hidden))])
        if begin == end:
            continue
        cut = torch.from_numpy(offsets[first : first + rows + 1] - begin).to(items.device)
        segments = Segments.of(cut, end - begin)
        out = network(segments.pad(items[begin:end]), segments.pad(seconds[begin:end]))
        lengths = torch.diff(cut)
        last = out[torch.arange(len(lengths), device=out.device), (lengths - 1).clamp_min(0)].float()
        hidden[first : first + rows] = torch.where(lengths[:, None] > 0, last, 0.0)
    return hidden
