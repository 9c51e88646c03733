"""The latest events of every user of a dataset in one compact file, which is mapped into memory instead of being read.

The file has a head, and then columns of little-endian int64: the users in ascending order, where the events of each begin, how many
events each has in the dataset, and the items and times of the kept events, oldest first. Text ids of the users may follow. A look-up
touches a few pages, whatever the number of users.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from configs.errors import VersionCorruptError

__all__ = ["Histories", "History", "write_histories"]

IntArray = npt.NDArray[np.int64]
MAGIC = b"RECHIST1"
HEAD = struct.Struct("<8sqqq")  # users, kept events, bytes of text ids; -1 if there are none


class History(NamedTuple):
    """A user's latest events, oldest first."""

    items: IntArray  # (E,) numbers of the items
    times: IntArray  # (E,) UTC seconds, ascending
    total: int  # events in the dataset, of which the latest E are kept


@dataclass(frozen=True, eq=False)
class Histories:
    """The mapped file. `name` identifies its content."""

    name: str
    users: IntArray  # (U,) ascending
    offsets: IntArray  # (U + 1,)
    counts: IntArray  # (U,)
    items: IntArray  # (N,)
    times: IntArray  # (N,)
    ends: IntArray | None = None  # (U,) where the text id of each user ends
    texts: memoryview | None = None

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def open(cls, path: Path, name: str) -> Histories:
        """Map a file.

        Raises:
            VersionCorruptError: If it is not such a file, or is incomplete.
        """
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                head = file.read(HEAD.size)
                magic, users, events, texts = HEAD.unpack(head) if len(head) == HEAD.size else (b"", 0, 0, 0)
                numbers = 3 * users + 1 + 2 * events + (users if texts >= 0 else 0)
                if magic != MAGIC or min(users, events) < 0 or size != HEAD.size + 8 * numbers + max(texts, 0):
                    raise VersionCorruptError(
                        f"{path} is not a complete file of histories; `recsys data histories` writes it again."
                    )
                mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise VersionCorruptError(f"{path} cannot be read ({error}); `recsys data histories` writes it again.") from error
        columns: list[IntArray] = []
        at = HEAD.size
        for count in (users, users + 1, users, events, events, *([users] if texts >= 0 else [])):
            columns.append(np.frombuffer(mapped, "<i8", count, at))
            at += 8 * count
        first, offsets, counts, items, times, *ends = columns
        return cls(name, first, offsets, counts, items, times, ends[0] if ends else None, mapped[at:] if ends else None)

    def of(self, user: int) -> History | None:
        """Return the events of a user, or None if the dataset does not have the user."""
        place = int(np.searchsorted(self.users, user))
        if place == len(self.users) or self.users[place] != user:
            return None
        rows = slice(int(self.offsets[place]), int(self.offsets[place + 1]))
        return History(self.items[rows], self.times[rows], int(self.counts[place]))

    def id_of(self, place: int) -> int | str:
        """Return the team's id of the user at a place."""
        if self.ends is None or self.texts is None:
            return int(self.users[place])
        begin = 0 if place == 0 else int(self.ends[place - 1])
        return bytes(self.texts[begin : int(self.ends[place])]).decode()


def write_histories(
    path: Path, users: IntArray, items: IntArray, times: IntArray, *, most: int, texts: Sequence[str] | None = None
) -> int:
    """Write the file, and return the number of users.

    Args:
        path: The file to write.
        users: (N,) users of the events. Events of one user and second are in order.
        items: (N,) numbers of their items.
        times: (N,) UTC seconds.
        most: Number of latest events to keep of each user.
        texts: Text ids of the users, in ascending order of their numbers, or None if the ids are integers.
    """
    order = np.lexsort((times, users))
    users = users[order]
    first = np.flatnonzero(np.diff(users, prepend=users[:1] - 1)) if len(users) else np.empty(0, np.int64)
    counts = np.diff(first, append=len(users)).astype(np.int64)
    age = np.repeat(first + counts, counts) - np.arange(len(users))  # 1 for a user's latest event
    order = order[age <= most]
    offsets = np.concatenate([[0], np.cumsum(np.minimum(counts, most))]).astype(np.int64)
    written = [] if texts is None else [text.encode() for text in texts]
    if texts is not None and len(written) != len(first):
        raise ValueError(f"{len(first)} users have {len(written)} text ids")
    blob = b"".join(written)
    with path.open("wb") as file:
        file.write(HEAD.pack(MAGIC, len(first), len(order), -1 if texts is None else len(blob)))
        for column in (users[first], offsets, counts, items[order], times[order]):
            file.write(np.ascontiguousarray(column, "<i8").data)
        if texts is not None:
            file.write(np.cumsum([len(text) for text in written], dtype="<i8").data)
            file.write(blob)
    return len(first)
