"""The users of an export with all their events, in pieces of a fixed number of users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from configs.errors import SettingsError
from models.columns import Columns
from models.identity import numbers_of
from models.recommender import IntArray, Requests
from tasks.datasets import Arrays

__all__ = ["EVENT_COLUMNS", "ChosenUsers", "Piece", "pieces_of", "read_users"]

EVENT_COLUMNS = (*Columns.HAPPENED, Columns.ROW)
MOST = 2**63 - 1


@dataclass(frozen=True, eq=False)
class ChosenUsers:
    """The users of a file, in the team's ids."""

    ids: IntArray  # (U,) ascending
    texts: list[str] | None  # (U,) if the ids are texts

    def without(self, gone: IntArray) -> ChosenUsers:
        """Return the users of whom `gone` has no number."""
        kept = ~np.isin(self.ids, gone)
        texts = None if self.texts is None else [text for text, stays in zip(self.texts, kept, strict=True) if stays]
        return ChosenUsers(self.ids[kept], texts)


@dataclass(frozen=True, eq=False)
class Piece:
    """Some users with all their events."""

    number: int  # from 0
    user_ids: IntArray  # (U,) ascending
    offsets: IntArray  # (U + 1,)
    item_ids: IntArray  # (N,)
    timestamps: IntArray  # (N,)

    def __len__(self) -> int:
        return len(self.user_ids)

    def requests(self, at: int) -> Requests:
        """Return the requests of these users at a time. Later events are left out."""
        kept = self.timestamps <= at
        counts = np.add.reduceat(np.append(kept.astype(np.int64), 0), self.offsets[:-1]) if len(self) else np.empty(0, np.int64)
        counts = np.where(np.diff(self.offsets) > 0, counts, 0)  # reduceat gives an empty row the next row's first value
        return Requests(
            user_ids=self.user_ids,
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            item_ids=self.item_ids[kept],
            timestamps=self.timestamps[kept],
            request_times=np.full(len(self), at, np.int64),
            targets=np.zeros(len(self), np.int64),
        )


def read_users(path: Path, *, text: bool) -> ChosenUsers:
    """Read a file with the id of one user in each line. Empty lines are skipped, and a repeated id counts once.

    Args:
        path: The file, in UTF-8.
        text: Whether the dataset's ids of users are texts. Otherwise they are whole numbers.

    Raises:
        SettingsError: The file cannot be read, contains no id, or a line is not a whole number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The file of users {path} cannot be read ({error}). Give a UTF-8 file with one id in each line."
        ) from error
    given = {line.strip(): number for number, line in reversed(list(enumerate(lines, start=1))) if line.strip()}
    if not given:
        raise SettingsError(
            f"The file of users {path} contains no id. Write one id in each line, or leave out --users for all users."
        )
    if text:
        texts = sorted(given)
        ids = numbers_of(pa.array(texts, pa.string()))
        order = np.argsort(ids)
        return ChosenUsers(ids[order], [texts[place] for place in order])
    for line, number in sorted(given.items(), key=lambda pair: pair[1]):
        if not (line.isascii() and line.isdigit() and int(line) <= MOST):
            raise SettingsError(
                f"Line {number} of {path} is {line[:40]!r}, but the ids of this dataset's users are whole numbers from 0 to 2^63 - 1. "
                "Write one id in each line, without a heading."
            )
    return ChosenUsers(np.unique(np.array([int(line) for line in given], np.int64)), None)


def pieces_of(chunks: Iterable[Arrays], users: int, chosen: IntArray | None = None) -> Iterator[Piece]:
    """Yield the users in pieces. The pieces do not depend on how the events are cut into chunks.

    Args:
        chunks: The events with EVENT_COLUMNS, sorted by user. Those of one second come in the order of their source, as in serving.
        users: Users in a piece; the last piece may have fewer.
        chosen: Ids of the users to take, ascending. Those without events come with an empty history. None takes all with events.
    """
    number, held = 0, _Held()
    for chunk in chunks:
        held.add(chunk, chosen)
        while held.complete > users:  # the last user's events may go on in the next chunk
            yield held.take(users, number)
            number += 1
    if chosen is not None:
        held.fill(chosen)
    while len(held.user_ids):
        yield held.take(users, number)
        number += 1


class _Held:
    """Events that are not in a piece yet."""

    def __init__(self) -> None:
        none = np.empty(0, np.int64)
        self.user_ids, self.counts, self.items, self.times, self.rows = none, none, none, none, none
        self._given = 0  # of the chosen users: how many precede those that are held

    @property
    def complete(self) -> int:
        """The number of users whose events are all there, and one that may have more."""
        return len(self.user_ids)

    def add(self, chunk: Arrays, chosen: IntArray | None) -> None:
        users, items, times, rows = (chunk[name] for name in EVENT_COLUMNS)
        if chosen is not None:
            place = np.minimum(np.searchsorted(chosen, users), max(len(chosen) - 1, 0))
            wanted = chosen[place] == users if len(chosen) else np.zeros(len(users), bool)
            users, items, times, rows = users[wanted], items[wanted], times[wanted], rows[wanted]
        if not len(users):
            return
        starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
        ids, counts = users[starts], np.diff(np.append(starts, len(users)))
        if len(self.user_ids) and self.user_ids[-1] == ids[0]:
            self.counts = np.append(self.counts[:-1], self.counts[-1] + counts[0])
            ids, counts = ids[1:], counts[1:]
        if chosen is not None:
            ids, counts = self._with_others(ids, counts, chosen)
        self.user_ids, self.counts = np.append(self.user_ids, ids), np.append(self.counts, counts)
        self.items, self.times = np.append(self.items, items), np.append(self.times, times)
        self.rows = np.append(self.rows, np.where(rows < 0, MOST, rows))  # events of a landing zone follow those of a release

    def fill(self, chosen: IntArray) -> None:
        """Add the chosen users after the last one that has events."""
        rest = chosen[self._given :]
        self.user_ids, self.counts = np.append(self.user_ids, rest), np.append(self.counts, np.zeros_like(rest))
        self._given = len(chosen)

    def take(self, users: int, number: int) -> Piece:
        ids, counts = self.user_ids[:users], self.counts[:users]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        end = int(offsets[-1])
        order = np.lexsort((self.rows[:end], self.times[:end], np.repeat(np.arange(len(ids)), counts)))
        found = Piece(number, ids, offsets, self.items[:end][order], self.times[:end][order])
        self.user_ids, self.counts = self.user_ids[users:], self.counts[users:]
        self.items, self.times, self.rows = self.items[end:], self.times[end:], self.rows[end:]
        return found

    def _with_others(self, ids: IntArray, counts: IntArray, chosen: IntArray) -> tuple[IntArray, IntArray]:
        """Return the users up to the last of `ids`, with those between them that have no events."""
        if not len(ids):
            return ids, counts
        end = int(np.searchsorted(chosen, ids[-1], side="right"))
        every = chosen[self._given : end]
        self._given = end
        filled = np.zeros(len(every), np.int64)
        filled[np.searchsorted(every, ids)] = counts
        return every, filled
