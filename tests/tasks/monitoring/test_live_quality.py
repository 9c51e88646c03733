from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import VersionCorruptError
from configs.settings import DriftSettings, EvaluationSettings
from infra.registry import ModelRef
from models.evaluation import clustered_means, confidence_interval, per_request
from tasks.datasets import read_table
from tasks.monitoring import live_requests
from tasks.monitoring.checks import decided
from tasks.monitoring.live_quality import live_check, live_quality, measured
from tests.tasks.world import World

SETTINGS = EvaluationSettings()
EVENTS = pd.DataFrame(
    [(1, 10, 100), (1, 11, 200), (1, 12, 300), (1, 13, 300), (2, 10, 250), (3, 11, 50), (3, 14, 60)],
    columns=["user_id", "item_id", "timestamp"],
)


def test_each_new_event_is_asked_for_with_everything_before_it_as_history() -> None:
    asked = live_requests(EVENTS.sample(frac=1, random_state=0), 150, SETTINGS, limit=100, seed=0)
    rows = [
        (int(asked.user_ids[r]), asked.item_ids[asked.offsets[r] : asked.offsets[r + 1]].tolist(), int(asked.targets[r]))
        for r in range(len(asked))
    ]
    assert rows[:1] == [(1, [10], 11)] and rows[3] == (2, [], 10) and len(rows) == 4
    last = sorted(rows[1:3], key=lambda row: len(row[1]))
    assert last[0][1] == [10, 11] and last[1][1] == [10, 11, last[0][2]], "new events are part of the history of later ones"
    assert asked.request_times.tolist() == [200, 300, 300, 250]
    before = live_requests(EVENTS, 150, SETTINGS.model_copy(update={"query_time": "last"}), limit=100, seed=0)
    assert before.request_times.tolist() == [100, 200, 300, 250], "a new user is asked for at the event's own time"


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(0, 60))
def test_later_events_change_no_request(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.integers(0, top, 60) for name, top in (("user_id", 5), ("item_id", 9), ("timestamp", 40))})
    whole = live_requests(frame, 20, SETTINGS, limit=10**6, seed=0)
    cut = live_requests(frame[frame["timestamp"] <= 30], 20, SETTINGS, limit=10**6, seed=0)
    kept = whole.take(np.flatnonzero(whole.request_times <= 30))
    for name in ("user_ids", "offsets", "item_ids", "timestamps", "request_times", "targets"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(cut, name))
    some = live_requests(frame, 20, SETTINGS, limit=limit, seed=seed)
    assert len(some) == min(limit, len(whole)) and set(some.request_times) <= set(whole.request_times)


def test_an_interval_over_users_is_wider_if_their_events_are_alike() -> None:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(50), 40)
    alike = np.where(np.repeat(rng.random(50) < 0.3, 40), 1, 10**6)
    found = measured(alike, users, seed=0)
    assert found is not None and found.requests == 2000 and found.users == 50
    values = per_request(alike, "hr", 10)
    low, high = confidence_interval(values, resamples=2000, seed=0)
    assert found.hr_interval[1] - found.hr_interval[0] > 4 * (high - low)
    alone = clustered_means(values, np.arange(2000), resamples=2000, seed=0)
    assert np.quantile(alone, [0.025, 0.975]) == pytest.approx([low, high], abs=0.01)
    assert measured(alike[:0], users[:0], seed=0) is None
    with pytest.raises(ValueError, match="same length"):
        clustered_means(values, users[:1], resamples=10, seed=0)


def events_of(world: World) -> pd.DataFrame:
    return read_table(world.store, world.newer, "interactions", ["user_id", "item_id", "timestamp"])


def sealed(world: World) -> ModelRef:
    """The well-trained challenger, which has learnt from the newer dataset."""
    return world.seal(world.stage())


def test_the_champion_is_ranked_on_what_came_after_it(world: World) -> None:
    found = live_quality(world.store, world.first, events_of(world), world.older.last, requests=10**6)
    new = events_of(world)["timestamp"] > world.older.last
    assert found.live is not None and found.live.requests == found.new_events == int(new.sum()) > 0
    assert found.champion == world.first.version and found.holdout.requests == 80
    assert found.holdout.ndcg_at_10 == pytest.approx(world.first.metrics["ndcg@10"])
    assert found.live.ndcg_interval[0] <= found.live.ndcg_at_10 <= found.live.ndcg_interval[1]
    assert found.loss == pytest.approx(1 - found.live.ndcg_at_10 / found.holdout.ndcg_at_10)
    few = live_quality(world.store, world.first, events_of(world), world.older.last, requests=10)
    assert few.live is not None and few.live.requests == 10 and few.new_events == found.new_events


def test_only_a_champion_that_ranks_new_events_badly_raises_an_alarm(world: World) -> None:
    good = sealed(world)
    events, after = events_of(world), int(np.quantile(events_of(world)["timestamp"], 0.7))
    same = live_quality(world.store, good, events, after, requests=500)
    shuffled = events.assign(item_id=np.random.default_rng(0).permutation(events["item_id"]) + 1000)
    broken = live_quality(world.store, good, shuffled, after, requests=500)
    drift = DriftSettings()
    assert broken.live is not None and broken.live.ndcg_at_10 == 0 and broken.like_holdout is None
    assert decided([live_check(broken, "", drift)], drift.alpha)[0].verdict == "drifted"
    assert decided([live_check(same, "", drift)], drift.alpha)[0].verdict == "stable"


def test_without_new_events_or_with_few_users_nothing_is_judged(world: World) -> None:
    drift = DriftSettings()
    nothing = live_quality(world.store, world.first, events_of(world), world.newer.last, requests=100)
    assert nothing.live is None and nothing.loss is None and nothing.new_events == 0
    check = live_check(nothing, "", drift)
    assert check.verdict == "not judged" and "Nothing has happened" in check.detail
    assert live_check(None, "There is no champion yet.", drift).detail == "There is no champion yet."
    events = events_of(world)
    one = events[(events["timestamp"] <= world.older.last) | (events["user_id"] == 40)]
    check = live_check(live_quality(world.store, world.first, one, world.older.last, requests=100), "", drift)
    assert check.verdict == "not judged" and "by 1 users, too few" in check.detail


def test_a_champion_without_ranks_is_refused(world: World) -> None:
    spoilt = replace(world.first, kind="ncf")
    with pytest.raises(VersionCorruptError, match=r"ranks\.parquet cannot be read"):
        live_quality(world.store, spoilt, events_of(world), world.older.last, requests=10)
