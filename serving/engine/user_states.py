"""Reads and writes users' events and states as the engine needs them: parsed, and for one version at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.engine.jobs import EventResult, HistoryEvent, NewEvent, RequestTime
from serving.engine.served_model import ServedModel
from serving.state import Appended, StateStore, UserLog, UserState, entry

__all__ = ["UserData", "UserStates", "seen_at"]


@dataclass(frozen=True, eq=False)
class UserData:
    """A user's events, and the state that a version last computed from them."""

    log: UserLog
    state: UserState | None

    @classmethod
    def read(cls, log: bytes | None, state: bytes | None, model: ServedModel) -> UserData:
        return cls(UserLog.read(log), UserState.read(state, model.model.state_size))


class UserStates:
    """A store's data of users, for any version."""

    def __init__(self, store: StateStore) -> None:
        self.store = store

    def read(self, users: Sequence[int], model: ServedModel) -> dict[int, UserData]:
        """Return the data of each user."""
        if not users:
            return {}
        found = self.store.read(users, model.version)
        return {user: UserData.read(stored.log, stored.state, model) for user, stored in zip(users, found, strict=True)}

    def append(
        self, events: Mapping[int, Sequence[NewEvent]], model: ServedModel
    ) -> tuple[dict[int, list[EventResult]], dict[int, Appended]]:
        """Append each user's events. Return what became of each event, and what is stored now, for `advance`."""
        users = list(events)
        entries = [(user, b"".join([entry(e.item, e.time, e.key) for e in events[user]])) for user in users]
        appended = dict(zip(users, self.store.append(entries, model.version), strict=True))
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
        after = [UserData.read(each.log, each.state, model) for each in appended.values()]
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
        worth = [(user, state.to_bytes()) for user, state in states.items() if state.count]
        if worth:
            self.store.write(worth, model.version)


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
