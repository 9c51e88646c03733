"""What a replay's slices bring through the landing zone, and how monitoring judges their time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configs.settings import DriftSettings
from configs.studies import ReplaySettings
from infra.landing_zone import FolderZone
from infra.storage import open_store
from tasks.datasets import Quarantine, quarantined
from tasks.ingest import IngestedSource, build_features
from tasks.ingest.movielens import RawTables
from tasks.landing import Landing, LandingOptions, land
from tasks.monitoring.arrival_checks import Window, stream_checks
from tasks.monitoring.reference import Reference, history_of
from tasks.replay import deliver, plan_replay, run_settings
from tasks.replay.feed import feed_of
from tests import synthetic

DAY_S = 86_400


def settings(folder: Path, store: str, frame: pd.DataFrame, **given: Any) -> ReplaySettings:
    path = synthetic.write_csv(folder / "data", frame)
    places = {"data": {"local_path": str(path)}, "store": {"url": f"file:{folder}/{store}"}, "work_dir": folder / "work"}
    lengths = {"slices": "day", "base_slices": 2, "most_slices": 3, "validation": {"min_rows": 50}}
    return ReplaySettings.model_validate({**places, **lengths, **given})


def landed(given: ReplaySettings) -> list[tuple[Landing, Quarantine | None]]:
    """Land each slice as the flow's etl does. Count the rows quarantined since the slice began."""
    plan = plan_replay(given)
    run, found = run_settings(plan, given), []
    for part in plan.slices:
        deliver(part, plan.feed, plan.zone)
        store, zone = open_store(run.store), FolderZone(plan.zone)
        made = land(store, zone, run.data.dataset_name, LandingOptions(run.validation, run.landing, run.etl, part.end))
        found.append((made, quarantined(store, made.dataset, since=part.start)))
    return found


def events() -> pd.DataFrame:
    """Events on each of five days."""
    frame = synthetic.interactions(40, 40, 25)
    return frame.assign(timestamp=synthetic.START + (frame["timestamp"] - synthetic.START) % (5 * DAY_S))


@pytest.mark.parametrize("again", ["the same store, deleted", "another store"])
def test_a_replay_that_starts_again_reads_each_slice_in_its_time(tmp_path: Path, again: str) -> None:
    frame = events()
    first = [made.dataset.rows for made, _ in landed(settings(tmp_path, "store", frame))]
    assert first == sorted(set(first)) and first[-1] < len(frame)
    if again == "another store":
        second = landed(settings(tmp_path, "other", frame))
    else:
        shutil.rmtree(tmp_path / "store")
        second = landed(settings(tmp_path, "store", frame))
    assert [made.dataset.rows for made, _ in second] == first
    assert not any(made.waiting for made, _ in second)
    assert all(account.status == "accepted" for made, _ in second for account in made.accounts)


def test_a_replay_of_a_given_id_starts_again_with_other_settings(tmp_path: Path) -> None:
    frame = events()
    landed(settings(tmp_path, "store", frame, id="mine"))
    shutil.rmtree(tmp_path / "store")
    scenario = {"name": "feed-outage", "from_slice": 2}
    found = landed(settings(tmp_path, "store", frame, id="mine", base_slices=3, most_slices=2, scenario=scenario))
    expected = landed(settings(tmp_path, "store", frame, id="fresh", base_slices=3, most_slices=2, scenario=scenario))
    assert [made.dataset.rows for made, _ in found] == [made.dataset.rows for made, _ in expected]


def test_quarantined_rows_count_in_their_own_slice_only(tmp_path: Path) -> None:
    frame = events().astype({"rating": "float64"})
    given = settings(tmp_path, "store", frame, landing={"settle_s": 600})
    parts = plan_replay(given).slices
    for part, bad in zip(parts, (5, 3, 0, 2), strict=True):
        inside = frame.index[frame["timestamp"].between(part.start, part.end - 1)]
        frame.loc[inside[:bad], "rating"] = 77.0
    found = landed(settings(tmp_path, "store", frame, landing={"settle_s": 600}))
    assert [each for _, each in found] == [Quarantine(part.rows, bad) for part, bad in zip(parts, (5, 3, 0, 2), strict=True)]


def test_a_last_slice_that_the_source_cuts_short_is_as_busy_and_as_fresh_as_before() -> None:
    times = 1_000_000_000 + 600 * np.arange(6 * 6 * 24 * 5)  # every ten minutes for thirty days
    users = np.random.default_rng(0).integers(1, 200, len(times))
    frame = pd.DataFrame({"user_id": users, "item_id": 1 + np.arange(len(times)) % 50, "rating": 3, "timestamp": times})
    feed = feed_of(
        IngestedSource("steady", RawTables(frame, None, None, ()), {}),
        ReplaySettings.model_validate({"slices": "week", "base_slices": 3}),
        1_700_000_000,
    )
    last = feed.slices[-1]
    assert last.rows >= 125 and last.end - last.start < 6 * DAY_S
    features = build_features(frame.sort_values(["user_id", "timestamp"]).reset_index(drop=True))
    before, current = (features[(features["timestamp"] >= last.start) == late] for late in (False, True))
    none = pd.Series(dtype=np.int64)
    reference = Reference(before, none, none, history_of(before.sort_values(["user_id", "timestamp"])))

    def judged(now: int) -> dict[str, float]:
        window = Window(int(before["timestamp"].max()), now, before["user_id"].unique().astype(np.int64))
        found = stream_checks(reference, current, window, DriftSettings())
        return {check.name: float(check.effect or 0) for check in found}

    effects = judged(last.end)
    assert effects["volume"] < 1.02 and effects["freshness"] < 3
    assert judged(last.end + 4 * DAY_S)["volume"] > 1.5  # as if the slice had ended with the calendar's week
