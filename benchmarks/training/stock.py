"""SS4Rec built from stock parts: s5-pytorch's S5 and mamba-ssm's Mamba.

There are two ways to train it. The authors' code has one row for each target, with all events before it (`PrefixRows`). Both layers
are causal, so one pass can predict the event after every position (`WindowRows`). That is what most users of these parts would
write, and each event then runs once instead of up to 200 times.

On CUDA, the relation-aware layer is mamba-ssm's own module. That package has no CPU build, so `MambaReference` replaces it on a
CPU: the same parameters with its reference maths (`selective_scan_ref`, a Python loop over time).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from models.recommender import IntArray, Sequences
from models.sequences import Vocabulary

__all__ = ["MambaReference", "PrefixRows", "StockSS4Rec", "WindowRows"]


class MambaReference(nn.Module):
    """mamba-ssm 2.3.2's Mamba with its reference maths: (B, L, width) -> (B, L, width), float32."""

    def __init__(self, width: int, states: int, conv_width: int = 4, expand: int = 2) -> None:
        super().__init__()
        self.states, self.inner, self.rank = states, expand * width, math.ceil(width / 16)
        self.in_proj = nn.Linear(width, 2 * self.inner, bias=False)
        self.conv1d = nn.Conv1d(self.inner, self.inner, conv_width, groups=self.inner, padding=conv_width - 1)
        self.x_proj = nn.Linear(self.inner, self.rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(self.rank, self.inner)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(self.inner, 1))
        self.D = nn.Parameter(torch.ones(self.inner))
        self.out_proj = nn.Linear(self.inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        u, z = self.in_proj(x).transpose(1, 2).chunk(2, dim=1)
        u = F.silu(self.conv1d(u)[..., :length])
        projected = self.x_proj(u.transpose(1, 2))
        dt, b, c = projected.split([self.rank, self.states, self.states], dim=-1)
        delta = F.softplus((dt @ self.dt_proj.weight.T).transpose(1, 2) + self.dt_proj.bias[:, None])
        decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, -self.A_log.exp()))
        drive = torch.einsum("bdl,bln,bdl->bdln", delta, b, u)
        state, outputs = x.new_zeros(len(x), self.inner, self.states), []
        # mamba-ssm indexes the tensors instead, which makes the backward pass quadratic in the length. Unbinding avoids that.
        for keep, write, read in zip(decay.unbind(2), drive.unbind(2), c.unbind(1), strict=True):
            state = keep * state + write
            outputs.append(torch.einsum("bdn,bn->bd", state, read))
        y = (torch.stack(outputs, dim=2) + u * self.D[:, None]) * F.silu(z)
        result: torch.Tensor = self.out_proj(y.transpose(1, 2))
        return result


class StockSS4Rec(nn.Module):
    """The paper's network: width 64, two blocks, one LayerNorm per block, dropout 0.2. Scores the event after each row."""

    def __init__(
        self,
        n_items: int,
        *,
        device: torch.device,
        width: int = 64,
        states: int = 32,
        blocks: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        from s5 import S5

        if device.type == "cuda":
            from mamba_ssm import Mamba

            relation = [Mamba(d_model=width, d_state=states, d_conv=4, expand=2) for _ in range(blocks)]
        else:
            relation = [MambaReference(width, states) for _ in range(blocks)]
        self.items = nn.Embedding(n_items + 1, width, padding_idx=0)
        nn.init.normal_(self.items.weight, std=0.02)
        self.time_aware = nn.ModuleList(S5(width, states, dt_min=0.001, dt_max=0.1) for _ in range(blocks))
        self.relation_aware = nn.ModuleList(relation)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-12) for _ in range(blocks))
        self.dropout = nn.Dropout(dropout)
        self.to(device)

    def forward(self, items: torch.Tensor, intervals: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Score the event after each row's last: (B, L) rows, padded at the end, -> (B, n_items + 1)."""
        x = self.states(items, intervals)
        last = x[torch.arange(len(x), device=x.device), lengths - 1]
        scores: torch.Tensor = last @ self.items.weight.T
        return scores

    def states(self, items: torch.Tensor, intervals: torch.Tensor) -> torch.Tensor:
        """Return the state after every position: (B, L) rows, padded at the end, -> (B, L, width)."""
        x = self.dropout(self.items(items))
        for time_aware, relation_aware, norm in zip(self.time_aware, self.relation_aware, self.norms, strict=True):
            # s5-pytorch computes in complex numbers, which have no bfloat16.
            with torch.autocast(x.device.type, enabled=False):
                timed = time_aware(x.float(), step_scale=intervals)
            x = norm(x + self.dropout(timed))
            x = norm(x + self.dropout(relation_aware(x)))
        states: torch.Tensor = x
        return states

    def loss(self, items: torch.Tensor, intervals: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy over the whole catalogue of the event after every position: (B, L) three times -> ().

        Positions whose target is 0 are padding and do not count.
        """
        scores = self.states(items, intervals) @ self.items.weight.T
        return F.cross_entropy(scores.flatten(0, 1).float(), targets.flatten(), ignore_index=0)


class PrefixRows:
    """One training row for each event except a user's first: the events before it, at most `max_length`, padded to that."""

    def __init__(self, train: Sequences, vocabulary: Vocabulary, max_length: int, device: torch.device) -> None:
        users = train.row_of_event
        target = np.flatnonzero(np.diff(users, prepend=-1) == 0)
        self.targets = torch.from_numpy(target).to(device)
        self._first = torch.from_numpy(np.maximum(train.offsets[users[target]], target - max_length)).to(device)
        self._items = torch.from_numpy(vocabulary.indices(train.item_ids)).to(device)
        self._times = torch.from_numpy(train.timestamps).to(device)
        self._max_length = max_length

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: IntArray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return items and intervals (B, L), lengths (B,) and targets (B,)."""
        index = torch.from_numpy(rows).to(self.targets.device)
        target, first = self.targets[index], self._first[index]
        place = first[:, None] + torch.arange(self._max_length, device=first.device)
        inside = place < target[:, None]
        place = torch.where(inside, place, target[:, None] - 1)
        items = torch.where(inside, self._items[place], 0)
        intervals = torch.where(inside, (self._times[place + 1] - self._times[place]).float(), 0.0)
        return items, intervals, target - first, self._items[target]


class WindowRows:
    """Rows of at most `length` successive events of one user, padded at the end to that. Each event is in exactly one row."""

    def __init__(self, train: Sequences, vocabulary: Vocabulary, length: int, device: torch.device) -> None:
        firsts = [np.arange(first, last - 1, length) for first, last in zip(train.offsets[:-1], train.offsets[1:], strict=True)]
        ends = np.repeat(train.offsets[1:], [len(each) for each in firsts])  # of the row's user
        self._first = torch.from_numpy(np.concatenate(firsts)).to(device)
        self._end = torch.from_numpy(ends).to(device)
        self._items = torch.from_numpy(vocabulary.indices(train.item_ids)).to(device)
        self._times = torch.from_numpy(train.timestamps).to(device)
        self._length = length

    def __len__(self) -> int:
        return len(self._first)

    def batch(self, rows: IntArray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return items, intervals and targets, each (B, L). A position's target is the user's next event, or 0 for padding."""
        index = torch.from_numpy(rows).to(self._first.device)
        place = self._first[index, None] + torch.arange(self._length, device=self._first.device)
        inside = place + 1 < self._end[index, None]
        place = torch.where(inside, place, 0)
        items, targets = (torch.where(inside, self._items[place + ahead], 0) for ahead in (0, 1))
        intervals = torch.where(inside, (self._times[place + 1] - self._times[place]).float(), 0.0)
        return items, intervals, targets
