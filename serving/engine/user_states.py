"""Reads and writes users' events and states as the engine needs them: parsed, and for one version at a time."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from cachetools import LRUCache

from models.histories import Histories
from serving.engine.jobs import EventResult, HistoryEvent, NewEvent, RequestTime
from serving.engine.served_model import ServedModel
from serving.state import Appended, MergedLog, StateStore, UserLog, UserState, entry, merge_logs

__all__ = ["UserData", "UserStates", "seen_at"]

UNREPORTED_BYTES = 32 << 20
MERGED_EVENTS = 1 << 20  # events of merged logs that are kept, of 16 bytes each


@dataclass(frozen=True, eq=False)
class UserData:
    """A user's events, and the state that a version last computed from them."""

    log: UserLog
    state: UserState | None


class UserStates:
    """A store's data of users, for any version, together with what the version's dataset knows of them."""

    def __init__(
        self,
        store: StateStore,
        histories: Callable[[str], Histories | None] = lambda dataset: None,
        tolerance_s: int = 0,
        erased: Container[int] = (),
    ) -> None:
        """Combine a store with histories.

        Args:
            store: The reported events, and the states.
            histories: Returns the histories of a dataset, if there are any.
            tolerance_s: Seconds by which the times of a reported event and of the same one in the dataset may differ.
            erased: Users of whom nothing is known, whatever is stored.
        """
        self.store, self._histories, self._tolerance_s, self._erased = store, histories, tolerance_s, erased
        # States of users who reported nothing: the store has no log for them that a state could be checked against.
        self._unreported: LRUCache[Hashable, UserState] = LRUCache(UNREPORTED_BYTES, getsizeof=_size)
        self._merged: LRUCache[Hashable, MergedLog] = LRUCache(MERGED_EVENTS, getsizeof=lambda log: len(log) + 1)

    def read(self, users: Sequence[int], model: ServedModel) -> dict[int, UserData]:
        """Return the data of each user."""
        histories = self._histories(model.dataset)
        known = [user for user in users if user not in self._erased]
        found = self.store.read(known, _view(model, histories)) if known else []
        data = {user: self._data(user, each.log, each.state, model, histories) for user, each in zip(known, found, strict=True)}
        if len(known) < len(users):
            data |= {user: UserData(UserLog.read(None), None) for user in users if user not in data}
        return data

    def erase(self, users: Sequence[int], models: Iterable[ServedModel]) -> bool:
        """Delete all data of users. Return False if some of it could not be deleted now."""
        gone = set(users)
        for cache in (self._unreported, self._merged):
            for key in [key for key in cache if isinstance(key, tuple) and key[0] in gone]:
                del cache[key]
        views = {_view(model, self._histories(model.dataset)) for model in models}
        return self.store.erase(users, sorted(views))

    def append(
        self, events: Mapping[int, Sequence[NewEvent]], model: ServedModel
    ) -> tuple[dict[int, list[EventResult]], dict[int, Appended]]:
        """Append each user's events. Return what became of each event, and what is stored now, for `advance`."""
        users = list(events)
        entries = [(user, b"".join([entry(e.item, e.time, e.key) for e in events[user]])) for user in users]
        appended = dict(zip(users, self.store.append(entries, _view(model, self._histories(model.dataset))), strict=True))
        results = {
            user: [
                EventResult(outcome, model.catalogue.index_of(event.item) is not None, model.version)
                for event, outcome in zip(events[user], stored.outcomes, strict=True)
            ]
            for user, stored in appended.items()
        }
        return results, appended

    def advance(self, appended: Mapping[int, Appended], model: ServedModel) -> None:
        """Advance the states of users whose events were appended."""
        histories = self._histories(model.dataset)
        after = [self._data(user, each.log, each.state, model, histories) for user, each in appended.items()]
        plans = [model.plan(each.log, each.state) for each in after]
        numbers = model.states(plans, list(appended))
        self.write(
            {
                user: plan.state_of(each.log, row)
                for user, each, plan, row in zip(appended, after, plans, numbers, strict=True)
                if not plan.current
            },
            model,
        )

    def write(self, states: Mapping[int, UserState], model: ServedModel) -> None:
        """Store new states of users. A state after no events is not worth storing."""
        worth = [(user, state.to_bytes()) for user, state in states.items() if (state.guard[1] if state.guard else state.count)]
        for user, state in states.items():
            if state.guard is not None and state.guard[1] == 0 and _size(state) <= UNREPORTED_BYTES:
                self._unreported[user, model.version, state.epoch] = replace(state, numbers=state.numbers.copy())  # of a batch
        if worth:
            self.store.write(worth, _view(model, self._histories(model.dataset)))

    def _data(
        self, user: int, log: bytes | None, state: bytes | None, model: ServedModel, histories: Histories | None
    ) -> UserData:
        reported, found = UserLog.read(log), UserState.read(state, model.model.state_size)
        base = None if histories is None else histories.of(user)
        if histories is None or base is None or not len(base.times):
            return UserData(reported, found if found is None or found.guard is None else None)
        key = (user, histories.name, reported.epoch, reported.count)
        merged = self._merged.get(key)
        if merged is None:
            merged = merge_logs(
                histories.name,
                base,
                reported,
                limit=model.most_events,
                tolerance_s=self._tolerance_s,
                newest=model.catalogue.schema.repeats == "newest",
            )
            with suppress(ValueError):  # larger than the whole cache
                self._merged[key] = merged
        if found is None and reported.count == 0:
            found = self._unreported.get((user, model.version, merged.epoch))
        return UserData(merged, found if found is not None and merged.continues(found) else None)


def _size(state: UserState) -> int:
    """Return an estimate of the memory of a state and its key."""
    return int(state.numbers.nbytes) + 500


def _view(model: ServedModel, histories: Histories | None) -> str:
    """Return the name under which a version's states are stored. States that have read different histories never meet."""
    return model.version if histories is None else f"{model.version}:{histories.name[:8]}:{histories.name[-8:]}"


def seen_at(log: UserLog, time: RequestTime, history: Sequence[HistoryEvent]) -> UserLog:
    """Return the user's events up to the request's time, with those that it contains. Return `log` itself if nothing differs."""
    if time.chosen and len(log) and log.times[-1] > time.at:
        past = int(np.searchsorted(log.times, time.at, side="right"))
        log = UserLog(log.epoch, log.count - (len(log) - past), log.times[:past], log.items[:past])
    if not history:
        return log
    times = np.array([time.at if event.time is None else event.time for event in history], np.int64)
    items = np.array([event.item for event in history], np.int64)
    known = set(zip(log.items.tolist(), log.times.tolist(), strict=True))
    new = np.array([at <= time.at and (item, at) not in known for item, at in zip(items.tolist(), times.tolist(), strict=True)])
    items, times = items[new], times[new]
    order = np.argsort(times, kind="stable")
    items, times = items[order], times[order]
    count = log.count + len(items)
    if not len(log) or not len(items) or times[0] >= log.times[-1]:  # the user's state can be continued
        return UserLog(log.epoch, count, np.append(log.times, times), np.append(log.items, items))
    times, items = np.append(log.times, times), np.append(log.items, items)
    order = np.argsort(times, kind="stable")
    return UserLog(b"", count, times[order], items[order])
