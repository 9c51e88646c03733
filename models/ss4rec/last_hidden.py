"""The hidden state after the last event of each history."""

from __future__ import annotations

import numpy as np
import torch

from models.recommender import IntArray
from models.ss4rec.kernels import Backend
from models.ss4rec.network import SS4RecNetwork
from models.windows import Segments

__all__ = ["last_hidden"]

TOKENS = {"cpu": 1 << 15, "cuda": 1 << 17}  # tokens processed at once


def last_hidden(
    network: SS4RecNetwork,
    items: torch.Tensor,
    intervals: torch.Tensor,
    offsets: IntArray,
    backend: Backend,
    who: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the hidden state (R, width) after each request's last event, or zero if it has no events.

    `offsets` (R + 1,) are on the host and split the tokens on the device. As many requests are processed at once as fit. `who`
    (R, traits) has the codes that the network takes.
    """
    most = TOKENS[items.device.type]
    hidden = torch.zeros(len(offsets) - 1, network.items.embedding_dim, device=items.device)
    first = 0
    while first < len(hidden):
        last = int(np.searchsorted(offsets, offsets[first] + most, side="right")) - 1
        last = min(max(last, first + 1), len(hidden))
        begin, end = int(offsets[first]), int(offsets[last])
        if end > begin:
            cut = torch.from_numpy(offsets[first : last + 1] - begin).to(items.device)
            some_who = None if who is None else who[first:last]
            out = network(items[begin:end], intervals[begin:end], Segments.of(cut, end - begin), backend, some_who)
            some = torch.diff(cut) > 0
            hidden[first:last] = torch.where(some[:, None], out[(cut[1:] - 1).clamp_min(0)].float(), 0.0)
        first = last
    return hidden
