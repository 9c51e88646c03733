"""Windows of many users in one stream of tokens, without padding and with the same layout on every backend."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

__all__ = ["Segments"]


@dataclass(frozen=True, eq=False)
class Segments:
    """Windows in a stream of tokens. Window w is tokens `offsets[w]:offsets[w + 1]`.

    Every token belongs to a window. A window may be empty.
    """

    offsets: torch.Tensor  # (W + 1,) int32, ascending from 0 to the number of tokens
    begins: torch.Tensor  # (T,) int32: the first token of each token's window
    windows: torch.Tensor  # (T,) int64: the window of each token
    _chunks: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, offsets: torch.Tensor, tokens: int) -> Segments:
        """Return the segments of a stream of `tokens` tokens. Reads nothing back from the device."""
        offsets = offsets.to(torch.int32)
        place = torch.arange(tokens, dtype=torch.int32, device=offsets.device)
        windows = torch.searchsorted(offsets, place, right=True) - 1
        return cls(offsets, offsets[windows], windows)

    @classmethod
    def single(cls, rows: int, device: torch.device) -> Segments:
        """Return windows of one token each, for a step of the recurrent form."""
        offsets = torch.arange(rows + 1, dtype=torch.int32, device=device)
        return cls(offsets, offsets[:-1], offsets[:-1].long())

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def positions(self) -> torch.Tensor:
        """(T,) int64: the position of each token in its window."""
        return torch.arange(len(self.begins), device=self.begins.device) - self.begins

    def slots(self, chunk: int) -> int:
        """Return the number of slots for one entry per `chunk` tokens of every window.

        A window w whose tokens start at o owns the slots from o // chunk + w on. The slots of two windows never overlap.
        """
        return len(self.begins) // chunk + len(self)

    def chunks(self, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first token of every chunk and the token after its last, (slots,) int32 each.

        The two are equal for an unused slot.
        """
        if chunk not in self._chunks:
            slots = torch.arange(self.slots(chunk), dtype=torch.int32, device=self.offsets.device)
            first_slots = self.offsets[:-1] // chunk + slots[: len(self)]
            window = torch.searchsorted(first_slots, slots, right=True) - 1
            ends = self.offsets[window + 1]
            first = torch.minimum(self.offsets[window] + (slots - first_slots[window]) * chunk, ends)
            self._chunks[chunk] = first, torch.minimum(first + chunk, ends)
        return self._chunks[chunk]

    def pad(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pad (T, ...) to (W, L, ...) with zeros after each window. Reads the longest length back from the device."""
        lengths = torch.diff(self.offsets)
        longest = int(lengths.max()) if len(lengths) else 0
        dense = tokens.new_zeros(len(self), longest, *tokens.shape[1:])
        return dense.index_put((self.windows, self.positions), tokens)

    def unpad(self, dense: torch.Tensor) -> torch.Tensor:
        """The inverse of `pad`."""
        return dense[self.windows, self.positions]
