"""One of many writers, each in its own process. It does not import torch, so that sixteen of them start quickly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from configs.serving import CHAMPION, BatchSettings, RedisSettings, StateSettings
from serving.engine import Engine, EventJob, Models, NewEvent, ServedModel
from serving.experiments import Assignment
from serving.reranking import Rules
from serving.state import FailoverStates, LocalStates, Outcome, StateStore, key_of
from tests.volume import volume

START = 1_700_000_000
WRITERS, EVENTS, USERS = 16, volume(250, 1000), 8
SETTINGS = StateSettings(events=5000)


def engine_of(states: StateStore, folder: Path) -> Engine:
    rules = Rules()
    engine = Engine(states, BatchSettings(), lambda: rules)
    engine.models = Models(ServedModel.load(folder, "v", 1, SETTINGS.events), {})
    return engine


def events_of(writer: int) -> list[NewEvent]:
    """Return the writer's part of all users' events, in order of time. One in ten is sent twice. No two of a user share a second."""
    rng = np.random.default_rng(writer)
    found = []
    for number in range(EVENTS):
        item, time = 100 + int(rng.integers(40)), START + 60 * (number * WRITERS + writer)
        event = NewEvent(int(rng.integers(USERS)), item, time, key_of(None, item, time))
        found += [event] * (2 if number % 10 == 0 else 1)
    return found


def write_all(folder: Path, results: Any) -> None:
    """Write what all writers write, in order of time, and put the log and the state of each user into `results`.

    This runs in a process as fresh as the writers', because the last bit of a state depends on how a process's memory is laid out.
    """
    states = LocalStates(SETTINGS)
    engine = engine_of(states, folder)
    for event in sorted((event for writer in range(WRITERS) for event in events_of(writer)), key=lambda event: event.time):
        engine.process([EventJob((event,), {event.user: Assignment(CHAMPION)})])
    kept = [states.read([user], "v")[0] for user in range(USERS)]
    results.put((engine.serving().model.state_size, [(each.log, each.state) for each in kept]))


def write(writer: int, url: str, folder: Path, start: Any, results: Any) -> None:
    states = FailoverStates(RedisSettings(url=url, timeout_s=30), SETTINGS)
    engine = engine_of(states, folder)
    start.wait()
    counts = {outcome: 0 for outcome in Outcome}
    for event in events_of(writer):
        done = engine.process([EventJob((event,), {event.user: Assignment(CHAMPION)})])[0]
        assert isinstance(done, list), done
        counts[done[0].outcome] += 1
    assert not states.down and states.unsent == 0
    states.close()
    results.put(counts)
