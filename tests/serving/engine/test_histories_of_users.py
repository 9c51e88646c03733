"""Users are served by their events in the dataset and the reported ones together, whoever computes their state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.serving import BatchSettings, RedisSettings, StateSettings
from models.histories import Histories, write_histories
from serving.engine import Answer, Engine, Models, ServedModel, UserStates
from serving.reranking import Rules
from serving.state import FailoverStates, LocalStates, StateStore
from tests.doubles.redis_server import redis_server
from tests.serving.engine.test_engine import answer, asked, events, expected, listed
from tests.serving.versions import START, Served, draw

BASE = [(105, START), (110, START + 60), (120, START + 4000)]
OTHERS = [(101, START + 90_000), (103, START + 95_000)]
NOW = START + 100_000


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("version")
    trained = draw(folder, 1)
    return Served(trained, ServedModel.load(folder, "v1", 1, 1000, "small"), folder)


def written(folder: Path, own: list[tuple[int, int]], name: str = "00000001-v-0123456789") -> Histories:
    rows = [(7, *event) for event in own] + [(3, 130, START)]
    users, items, times = (np.array([row[place] for row in rows], np.int64) for place in range(3))
    write_histories(folder / name, users, items, times, most=1000)
    return Histories.open(folder / name, name)


def engine_of(version: Served, histories: Histories | None, states: StateStore | None = None) -> Engine:
    rules = Rules()
    kept = LocalStates(StateSettings()) if states is None else states
    found = UserStates(kept, lambda dataset: histories if dataset == "small" else None, 5)
    engine = Engine(found, BatchSettings(cache_s=0), lambda: rules)
    engine.models = Models(version.served, {})
    return engine


def check(found: Answer, version: Served, history: list[tuple[int, int]], source: str) -> None:
    assert (listed(found), found.events, found.source) == (expected(version, history, NOW), len(history), source)


def test_the_first_request_of_a_user_of_the_dataset_is_personal(version: Served, tmp_path: Path) -> None:
    engine = engine_of(version, written(tmp_path, BASE))
    check(answer(engine, asked(NOW)), version, BASE, "rebuilt")
    check(answer(engine, asked(NOW)), version, BASE, "state")
    assert answer(engine, asked(NOW, user=8)).source == "cold"
    assert engine.log_of(7)[1].count == 3


def test_each_reported_event_continues_the_state_after_the_events_of_the_dataset(version: Served, tmp_path: Path) -> None:
    engine = engine_of(version, written(tmp_path, BASE))
    engine.process([events(OTHERS[0])])
    check(answer(engine, asked(NOW)), version, [*BASE, OTHERS[0]], "state")
    engine.process([events(OTHERS[1])])
    check(answer(engine, asked(NOW)), version, [*BASE, *OTHERS], "state")


def test_an_event_that_was_reported_before_the_dataset_was_made_counts_once(version: Served, tmp_path: Path) -> None:
    engine = engine_of(version, written(tmp_path, BASE))
    engine.process([events(BASE[1], BASE[2], OTHERS[0])])
    check(answer(engine, asked(NOW)), version, [*BASE, OTHERS[0]], "state")


def test_a_late_event_takes_its_place_among_those_of_the_dataset(version: Served, tmp_path: Path) -> None:
    engine = engine_of(version, written(tmp_path, BASE))
    engine.process([events(OTHERS[0])])
    answer(engine, asked(NOW))
    late = (115, START + 100)
    engine.process([events(late)])
    check(answer(engine, asked(NOW)), version, [*BASE[:2], late, BASE[2], OTHERS[0]], "state")


def test_workers_that_share_redis_agree_also_if_one_has_no_or_other_histories(version: Served, tmp_path: Path) -> None:
    """A worker that cannot read the store serves by reported events alone. Neither takes the other's state for its own."""
    histories = written(tmp_path, BASE)
    newer = written(tmp_path, [*BASE, (131, START + 5000)], "00000002-w-9876543210")
    with redis_server() as server:
        stores = [FailoverStates(RedisSettings(url=server.url), StateSettings()) for _ in range(4)]
        one, two, without, updated = (
            engine_of(version, known, store) for known, store in zip((histories, histories, None, newer), stores, strict=True)
        )
        one.process([events(OTHERS[0])])
        for _ in range(2):
            check(answer(two, asked(NOW)), version, [*BASE, OTHERS[0]], "state")
            assert listed(answer(without, asked(NOW))) == expected(version, OTHERS[:1], NOW)
            assert listed(answer(updated, asked(NOW))) == expected(version, [*BASE, (131, START + 5000), OTHERS[0]], NOW)
        without.process([events(OTHERS[1])])
        check(answer(one, asked(NOW)), version, [*BASE, *OTHERS], "state")
        assert listed(answer(without, asked(NOW))) == expected(version, OTHERS, NOW)
        for store in stores:
            store.close()


def test_a_long_history_is_restarted_at_the_same_events_however_it_was_read(version: Served, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    long = [(100 + int(rng.integers(40)), START + 600 * place) for place in range(90)]
    split = written(tmp_path, long[:60])
    stepwise, at_once = engine_of(version, split), engine_of(version, written(tmp_path, long, "00000002-w-9876543210"))
    for event in long[60:]:
        stepwise.process([events(event)])
    ours, theirs = answer(stepwise, asked(NOW)), answer(at_once, asked(NOW))
    assert (ours.source, theirs.source, ours.events, theirs.events) == ("state", "rebuilt", 90, 90)
    assert [item.score for item in ours.items] == pytest.approx([item.score for item in theirs.items], abs=1e-5)


def test_a_request_for_the_past_sees_only_what_had_happened(version: Served, tmp_path: Path) -> None:
    engine = engine_of(version, written(tmp_path, BASE))
    found = answer(engine, asked(START + 100, chosen=True))
    assert found.events == 2 and listed(found) == expected(version, BASE[:2], START + 100)
