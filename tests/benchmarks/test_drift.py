from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.pipeline import drift
from benchmarks.pipeline.drift import (
    Source,
    interval,
    render,
    steady_stream,
    synthetic_source,
    time_slice,
    user_slice,
    with_outlier,
)
from tasks.ingest import build_features


@pytest.fixture(scope="module")
def source() -> Source:
    return synthetic_source(40_000, seed=1)


def test_a_steady_stream_is_as_long_as_asked_and_no_user_rates_a_film_twice(source: Source) -> None:
    stream = steady_stream(source, 60_000, seed=0)
    assert len(stream) >= 60_000 and not stream.duplicated(["user_id", "item_id"]).any()
    pd.testing.assert_frame_equal(stream, steady_stream(source, 60_000, seed=0))
    days = stream["timestamp"] // 86_400
    thirds = np.histogram(days, bins=3)[0]
    assert thirds.max() < 1.3 * thirds.min(), "the feed grows or dries up"
    hours = [np.bincount(frame["timestamp"] // 3600 % 24, minlength=24) / len(frame) for frame in (source.events, stream)]
    assert np.abs(hours[0] - hours[1]).max() < 0.03


def test_slices_follow_each_other_and_whole_users_come_together(source: Source) -> None:
    features = build_features(steady_stream(source, 30_000, seed=0))
    begins = int(np.sort(features["timestamp"])[20_000])
    current, window = time_slice(features, begins, 500)
    assert 500 <= len(current) < 600 and window.start < begins <= current["timestamp"].min()
    following, _ = time_slice(features, int(current["timestamp"].max()) + 1, 500)
    assert following["timestamp"].min() > current["timestamp"].max()
    users = features["user_id"].unique()[:200]
    taken = user_slice(features, users, 2000, np.random.default_rng(0))
    assert len(taken) >= 2000 and set(taken["user_id"]) <= set(users)
    whole = features[features["user_id"].isin(taken["user_id"])]
    assert len(whole) == len(taken)
    spoilt = with_outlier(taken, "rating")
    assert (spoilt["rating"] > 1e8).sum() == 1 and (taken["rating"] > 1e8).sum() == 0


def test_the_interval_is_wilsons() -> None:
    assert interval(0, 100) == pytest.approx((0.0, 0.0370), abs=1e-4)
    assert interval(5, 100) == pytest.approx((0.0215, 0.1118), abs=1e-4)


def test_the_benchmark_measures_and_renders_all_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "REFERENCE_EVENTS", 5000)
    monkeypatch.setattr(drift, "PLANTED_SIZE", 1500)
    monkeypatch.setattr(drift, "SOURCES", [])
    monkeypatch.setattr(drift, "SCENARIOS", {"rating-scale": drift.SCENARIOS["rating-scale"]})
    out = tmp_path / "drift.json"
    arguments = ["--sources", "synthetic", "--synthetic-events", "40000", "--slices", "2", "--references", "1", "--sizes", "500"]
    monkeypatch.setattr(sys, "argv", ["drift", *arguments, "--seeds", "1", "--out", str(out)])
    drift.main()
    result = json.loads(out.read_text())
    assert [(row["kind"], row["events"], row["slices"]) for row in result["unchanged"]] == [("stream", 500, 2)]
    assert result["unchanged"][0]["judged_checks"] == 13 and result["planted"][0]["found"] == 1
    table = render(result).splitlines()
    assert len(table) == 4 and "time slices of a steady feed, 500 events" in table[2] and "found in 1 of 1" in table[3]
