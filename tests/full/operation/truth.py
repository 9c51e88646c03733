"""What a landing zone says, merged in the plainest way: by dicts and loops over all deliveries, without the product's code."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Literal

Event = tuple[int, int, float, int]
"""User, film, rating, UTC seconds."""
Described = tuple[int, int | None, dict[str, Any]]
"""An id, the row's own `updated_at` or None, and what the row says."""
Kind = Literal["events", "items", "users"]


@dataclass(eq=False)
class Delivery:
    """The good rows of a file as one run reads it, and the number of the bad ones."""

    name: str
    written: int  # UTC seconds
    events: list[Event] = field(default_factory=list)
    described: list[Described] = field(default_factory=list)
    kind: Kind = "events"
    bad: int = 0


@dataclass(frozen=True)
class Account:
    """What the product must say about a file."""

    rows: int
    accepted: int
    duplicates: int
    quarantined: int
    removed: int
    late: int
    corrections: int


@dataclass(frozen=True)
class Won:
    """The event that counts for a user and film, and where it comes from."""

    time: int
    rating: float
    by: Delivery

    def is_beaten_by(self, time: int, rating: float, written: int) -> bool:
        """Return whether another event counts: a newer one or, in one second, that of a later delivery or with a higher rating."""
        if time != self.time:
            return time > self.time
        if rating == self.rating:
            return False
        return written > self.by.written or (written == self.by.written and rating > self.rating)


class Truth:
    """All deliveries so far, and what was removed again."""

    def __init__(self, lateness: int) -> None:
        self.lateness = lateness
        self.runs: list[list[Delivery]] = []
        self.coming: list[Delivery] = []
        self.removed_files: set[str] = set()
        self.removed_users: set[int] = set()
        self.removed_events: set[tuple[int, int, int]] = set()  # user, film, time
        self.reach = self.watermark = 0  # UTC seconds

    def deliver(self, delivery: Delivery) -> None:
        """Let the next run read this file."""
        self.coming.append(delivery)

    def end_run(self, now: float) -> dict[str, Account]:
        """Let a run at `now` read what was delivered. Return the account of each file."""
        events, items, users = self.events(), self.cells("items"), self.cells("users")
        read, self.coming = self.coming, []
        self.runs.append(read)
        watermark = self.watermark
        after = self.events()
        cells = {"items": (items, self.cells("items")), "users": (users, self.cells("users"))}
        accounts = {}
        for file in read:
            won = [key for key, event in after.items() if event.by is file]
            accepted = len(won)
            if file.kind != "events":
                before, changed = cells[file.kind]
                accepted = len(
                    {row for key, (_, _, by, row) in changed.items() if by is file and changed[key] != before.get(key)}
                )
            removed = len(file.events) - len(self.kept(file))
            rows = len(file.events) + len(file.described) + file.bad
            accounts[file.name] = Account(
                rows=rows,
                accepted=accepted,
                duplicates=rows - accepted - file.bad - removed,
                quarantined=file.bad,
                removed=removed,
                late=sum(after[key].time < watermark for key in won),
                corrections=sum(key in events for key in won),
            )
        if read:
            self._reach([event.time for event in after.values() if any(event.by is file for file in read)], int(now))
        return accounts

    def end_rereading(self, now: float) -> None:
        """Record that a run at `now` has read all files once more."""
        self._reach([], int(now))

    def kept(self, file: Delivery) -> list[Event]:
        """Return the events of a file that were not removed."""
        if file.name in self.removed_files:
            return []
        return [
            event
            for event in file.events
            if event[0] not in self.removed_users and (event[0], event[1], event[3]) not in self.removed_events
        ]

    def after_removal(self) -> None:
        """Record that something was removed, perhaps the event that reached furthest."""
        self.reach = min(self.reach, max(event.time for event in self.events().values()))
        self.watermark = min(self.watermark, self.reach - self.lateness)

    def events(self) -> dict[tuple[int, int], Won]:
        """Return the event that counts for each user and film."""
        found: dict[tuple[int, int], Won] = {}
        for read in self.runs:
            for file in sorted(read, key=lambda each: each.written):
                for user, item, rating, time in self.kept(file):
                    before = found.get((user, item))
                    if before is None or before.is_beaten_by(time, rating, file.written):
                        found[user, item] = Won(time, rating, file)
        return found

    def counts_before(self) -> dict[tuple[int, int], list[int]]:
        """Return how many events the user and the film of each event had in earlier seconds, including those that no longer count."""
        happened: set[tuple[int, int, int]] = set()
        for read in self.runs:
            for file in read:
                happened |= {(user, item, time) for user, item, _, time in self.kept(file)}
        of_user: dict[int, list[int]] = {}
        of_item: dict[int, list[int]] = {}
        for user, item, time in sorted(happened, key=lambda event: event[2]):
            of_user.setdefault(user, []).append(time)
            of_item.setdefault(item, []).append(time)
        return {
            (user, item): [bisect_left(of_user[user], won.time), bisect_left(of_item[item], won.time)]
            for (user, item), won in self.events().items()
        }

    def cells(self, kind: Kind) -> dict[tuple[int, str], tuple[int, Any, Delivery, int]]:
        """Return the newest value of each id and column, with its time, file and row. In one second, the greater value counts."""
        found: dict[tuple[int, str], tuple[int, Any, Delivery, int]] = {}
        for read in self.runs:
            for file in read:
                for row, (id_, updated_at, said) in enumerate(file.described if file.kind == kind else []):
                    if file.name in self.removed_files or (kind == "users" and id_ in self.removed_users):
                        continue
                    time = file.written if updated_at is None else updated_at
                    for column, value in said.items():
                        if (id_, column) not in found or (time, value) > found[id_, column][:2]:
                            found[id_, column] = (time, value, file, row)
        return found

    def table(self, kind: Kind, columns: tuple[str, ...], empty: tuple[Any, ...]) -> dict[int, tuple[Any, ...]]:
        """Return what is known about each film or user that has an event or a description."""
        cells = self.cells(kind)
        ids = {key[0 if kind == "users" else 1] for key in self.events()} | {id_ for id_, _ in cells}
        found = {}
        for id_ in ids:
            values = []
            for column, nothing in zip(columns, empty, strict=True):
                values.append(cells[id_, column][1] if (id_, column) in cells else nothing)
            found[id_] = tuple(values)
        return found

    def _reach(self, times: list[int], now: int) -> None:
        """Update how far the events reach. Events of the future say nothing about that."""
        self.reach = max([min(self.reach, now), *(time for time in times if time <= now)])
        self.watermark = min(max(self.watermark, self.reach - self.lateness), now - self.lateness)
