"""Sixteen processes write events of the same users at once. The states equal those of one writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.serving import RedisSettings
from serving.state import Outcome, UserLog, UserState
from serving.state.redis_store import RedisStates
from tests.doubles.forks import forks
from tests.doubles.redis_server import redis_server
from tests.serving.versions import draw
from tests.serving.writer import EVENTS, SETTINGS, WRITERS, write, write_all

pytestmark = pytest.mark.full


def test_sixteen_writers_at_once_leave_the_states_of_one(tmp_path: Path) -> None:
    draw(tmp_path, 1)
    with redis_server() as server:
        start, results = forks.Barrier(WRITERS), forks.Queue()
        writers = [forks.Process(target=write, args=(writer, server.url, tmp_path, start, results)) for writer in range(WRITERS)]
        for process in writers:
            process.start()
        counts = [results.get(timeout=400) for _ in writers]
        for process in writers:
            process.join(400)
            assert process.exitcode == 0
        total = {outcome: sum(count[outcome] for count in counts) for outcome in Outcome}
        assert total[Outcome.APPLIED] + total[Outcome.LATE] == WRITERS * EVENTS
        assert total[Outcome.DUPLICATE] == WRITERS * EVENTS // 10 and total[Outcome.TOO_OLD] == 0
        assert total[Outcome.LATE] > 0  # they did overlap
        shared = RedisStates(RedisSettings(url=server.url, timeout_s=30), SETTINGS)
        one = forks.Process(target=write_all, args=(tmp_path, results))
        one.start()
        size, kept = results.get(timeout=400)
        one.join(400)
        for user, (log, numbers) in enumerate(kept):
            found = shared.read([user], "v")[0]
            there, here = UserLog.read(found.log), UserLog.read(log)
            assert there.count == here.count
            assert np.array_equal(there.items, here.items) and np.array_equal(there.times, here.times)
            state, expected = UserState.read(found.state, size), UserState.read(numbers, size)
            assert state is not None and expected is not None
            assert (state.count, state.epoch) == (there.count, there.epoch)
            assert (state.last_item, state.last_time) == (expected.last_item, expected.last_time)
            assert np.array_equal(state.numbers, expected.numbers)
        shared.close()
