"""What happens in the world: users who watch items of a catalogue that changes, and a producer that delivers their events each day.

Items lie on a ring. A user goes round it in small steps and sometimes jumps, so what comes next depends on the last item. Each week, new
items appear at random places of the ring and the oldest ones leave it. A model that is never trained again therefore loses a part of its
worth each week.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

__all__ = ["Calendar", "World", "write_delivery"]

USERS = 1_000
ITEMS, NEW_ITEMS = 480, 12  # on the ring, and how many of them are new each week
VISITORS = 0.15  # of the users, each day
LONGEST = 8  # events of a visit; it has 3 at least
STEPS = (0.45, 0.25, 0.15, 0.10, 0.05)  # how likely the next item is the first, second, ... from the last one on
JUMPS = 0.15  # of the events are anywhere on the ring
DAY_S = 86_400


@dataclass(frozen=True)
class Calendar:
    """Which days of the year are special, by their number from 0."""

    start: date = date(2025, 3, 3)  # a Monday
    silent: range = range(110, 140)  # nothing is delivered, and these events are lost
    bad: range = range(203, 210)  # three of ten rows are bad, until all files are delivered again

    def day(self, number: int) -> date:
        return self.start + timedelta(days=number)

    @property
    def begins(self) -> float:
        """The moment at which the installation is started: noon on the day before, in UTC seconds."""
        return datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC).timestamp() - DAY_S / 2


@dataclass
class World:
    """Users and items, one day after the other."""

    seed: int = 1
    _positions: np.ndarray = field(init=False)  # of users on the ring, from 0 to 1
    _seen: list[set[int]] = field(init=False)

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng(self.seed)
        self._places = dict(enumerate(self._draw.random(ITEMS).tolist(), start=1))  # item -> its place on the ring
        self._newest = ITEMS
        self._positions = self._draw.random(USERS)
        self._seen = [set() for _ in range(USERS)]
        self._arrange()

    def next_week(self) -> None:
        """Let new items appear and the oldest ones leave."""
        for _ in range(NEW_ITEMS):
            self._newest += 1
            self._places[self._newest] = float(self._draw.random())
            del self._places[min(self._places)]
        self._arrange()

    def events(self, day: date) -> pd.DataFrame:
        """Return what users watch on a day, with MovieLens' columns, by time."""
        rows: list[tuple[int, int, float, int]] = []
        midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        for user in np.flatnonzero(self._draw.random(USERS) < VISITORS):
            at = midnight + int(self._draw.integers(8 * 3600, 21 * 3600))
            for _ in range(int(self._draw.integers(3, LONGEST + 1))):
                item = self._next(int(user))
                if item is not None:
                    rows.append((int(user) + 1, item, float(self._draw.integers(4, 11)) / 2, at))
                at += int(self._draw.integers(30, 900))
        frame = pd.DataFrame(rows, columns=["userId", "movieId", "rating", "timestamp"])
        return frame.sort_values("timestamp", kind="stable", ignore_index=True)

    def _next(self, user: int) -> int | None:
        if self._draw.random() < JUMPS:
            self._positions[user] = self._draw.random()
        first = int(np.searchsorted(self._ring, self._positions[user], side="right"))
        step = int(self._draw.choice(len(STEPS), p=STEPS))
        for further in range(len(self._items)):
            place = (first + further) % len(self._items)
            item = int(self._items[place])
            if item in self._seen[user]:
                continue
            if step:
                step -= 1
                continue
            self._seen[user].add(item)
            self._positions[user] = self._ring[place]
            return item
        return None

    def _arrange(self) -> None:
        order = sorted(self._places, key=self._places.__getitem__)
        self._items = np.array(order)
        self._ring = np.array([self._places[item] for item in order])


def write_delivery(path: Path, events: pd.DataFrame, *, bad: bool = False) -> None:
    """Write a file of the landing zone. With `bad`, three of ten ratings are impossible."""
    if bad:
        events = events.assign(rating=events["rating"].where(np.arange(len(events)) % 10 >= 3, 77.0))
    partial = path.with_name(f".{path.name}")
    events.to_csv(partial, index=False)
    partial.replace(path)
