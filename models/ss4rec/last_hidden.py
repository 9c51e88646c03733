"""The hidden state after the last event of each history."""

from __future__ import annotations

import numpy as np
import torch

from models.sequences import Histories
from models.ss4rec.kernels import Backend
from models.ss4rec.network import SS4RecNetwork
from models.windows import Segments

__all__ = ["last_hidden"]

TOKENS = {"cpu": 1 << 15, "cuda": 1 << 17}  # tokens processed at once


def last_hidden(network: SS4RecNetwork, read: Histories, backend: Backend, who: torch.Tensor | None = None) -> torch.Tensor:
    """Return the hidden state (R, width) after each request's last event, or zero if it has no events.

    The tokens are on the network's device, and the offsets on the host. As many requests are processed at once as fit. `who`
    (R, traits) has the codes that the network takes.
    """
    device, offsets = read.items.device, read.offsets.numpy()
    most = TOKENS[device.type]
    hidden = torch.zeros(len(offsets) - 1, network.items.embedding_dim, device=device)
    first = 0
    while first < len(hidden):
        last = int(np.searchsorted(offsets, offsets[first] + most, side="right")) - 1
        last = min(max(last, first + 1), len(hidden))
        begin, end = int(offsets[first]), int(offsets[last])
        if end > begin:
            cut = torch.from_numpy(offsets[first : last + 1] - begin).to(device)
            out = network(
                read.items[begin:end],
                read.intervals[begin:end],
                Segments.of(cut, end - begin),
                backend,
                None if who is None else who[first:last],
                read.until[begin:end],
            )
            some = torch.diff(cut) > 0
            hidden[first:last] = torch.where(some[:, None], out[(cut[1:] - 1).clamp_min(0)].float(), 0.0)
        first = last
    return hidden
