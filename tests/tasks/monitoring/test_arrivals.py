"""Arrivals are judged whatever their dates are, and one wild time hides nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from configs.settings import DriftSettings, MonitoringSettings, ValidationSettings
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, read_table, write_dataset
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tasks.monitoring import monitor_dataset
from tasks.monitoring.anchor import find_anchor
from tasks.monitoring.slices import known_to, last_look, newest_slice, window_of
from tests import synthetic
from tests.tasks.fed import bots, steady
from tests.tasks.landed import NAME as LANDED
from tests.tasks.landed import Place, content, events
from tests.tasks.world import NAME, World

DAY = 86_400
DRIFT = DriftSettings(alpha=0.03, min_rows=50)
QUIET = MonitoringSettings(live_requests=0, evidently=False)


def stored(store: LocalStore, frame: pd.DataFrame, name: str = "custom") -> DatasetRef:
    """Store a release of these events."""
    tables = RawTables(
        frame, synthetic.movies(frame).assign(year=pd.array([1990] * frame["item_id"].nunique(), dtype="Int64")), None, ()
    )
    validated = validate(tables, ValidationSettings(min_rows=1, max_quarantined_share=1.0), 2_000_000_000)
    return write_dataset(store, name, validated, build_features(validated.interactions), {})


def more_than(world: World, added: pd.DataFrame) -> DatasetRef:
    """Store the champion's dataset with further events as a later version."""
    before = read_table(world.store, world.older, "interactions", list(added.columns))
    return stored(world.store, pd.concat([before, added], ignore_index=True), world.older.name)


def test_events_dated_before_the_champions_last_one_are_judged_when_they_arrive(world: World) -> None:
    backdated = bots(60, 30, begin=world.older.last - DAY // 2)
    found = monitor_dataset(world.store, more_than(world, backdated), NAME, DRIFT, QUIET).result
    assert found.rows == 0 and found.arrived == found.late == len(backdated) and found.arrived_since == world.older.version
    assert found.verdict == "drifted" and {"rating, as arrived", "seconds between events (log), as arrived"} <= set(found.drifted)
    assert found.causes, "training again can help"


def test_arrivals_like_the_champions_data_are_stable(world: World) -> None:
    late = synthetic.interactions(60, 40, 25, seed=9).assign(user_id=lambda f: f["user_id"] + 700)
    late["timestamp"] -= 30 * DAY
    lenient = DriftSettings(alpha=0.03, min_rows=50, max_column_distance=0.25)  # the catalogue has 40 films: ranks are coarse
    found = monitor_dataset(world.store, more_than(world, late), NAME, lenient, QUIET).result
    assert found.late > 0 and found.verdict == "stable", found.reasons
    assert any(check.name.endswith("as arrived") and check.verdict == "stable" for check in found.checks)


def test_arrivals_that_are_in_the_slice_are_not_judged_twice(world: World) -> None:
    later = synthetic.interactions(20, 40, 10, seed=5).assign(user_id=lambda f: f["user_id"] + 700)
    later["timestamp"] += 10**7
    found = monitor_dataset(
        world.store, more_than(world, later), NAME, DriftSettings(alpha=0.03, min_rows=50, slice_share=0.5), QUIET
    )
    assert found.result.late == 0 and found.result.arrived == found.result.rows == len(later)
    assert not any("arrived" in check.name for check in found.result.checks)


def test_one_event_dated_a_day_ahead_hides_none_of_the_later_events(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    base = steady(60, 6)
    last = int(base["timestamp"].max())
    wild = base.head(1).assign(item_id=999, timestamp=last + DAY)
    later = steady(60, 1, seed=1).assign(user_id=lambda f: f["user_id"] + 300)
    later["timestamp"] += last + 60 - later["timestamp"].min()
    later = later[later["timestamp"] < last + DAY].drop_duplicates(["user_id", "item_id"])
    champion = stored(store, pd.concat([base, wild]))
    dataset = stored(store, pd.concat([base, wild, later]))
    assert champion.horizon == last and champion.last == last + DAY
    features = read_table(store, dataset, "features")
    known = known_to(store, champion, dataset, features)
    assert known is not None and known.until == last and known.rows.sum() == champion.rows
    older, newest = newest_slice(features, DriftSettings(slice_share=0.9), known.until, None, known.rows)
    assert len(newest) == len(later) and 999 not in set(newest["item_id"])
    window = window_of(older, newest)
    assert window is not None and window.start == last


def test_one_landed_event_from_the_future_does_not_move_the_watermark(tmp_path: Path) -> None:
    place = Place(tmp_path, allowed_lateness_s=0)
    now = 946_684_800.0 + 10_000
    place.put("a.csv", events((1, 1, 4, 100), (1, 2, 4, 9000)), modified=0)
    assert place.land(now).watermark == 946_684_800 + 9000
    place.put("b.csv", events((2, 1, 4, 10_000 + DAY // 2)), modified=0)
    assert place.land(now).watermark == 946_684_800 + 9000
    place.put("c.csv", events((3, 1, 4, 11_000)), modified=0)
    later = place.land(now + 1500)
    assert later.watermark == 946_684_800 + 11_000 and later.accounts[0].late == 0
    assert later.dataset.horizon == 946_684_800 + 11_000 and later.dataset.last == 946_684_800 + 10_000 + DAY // 2
    assert later.dataset.horizon == place.compact().horizon


def test_a_watermark_that_an_earlier_version_let_jump_comes_back(tmp_path: Path) -> None:
    place = Place(tmp_path, allowed_lateness_s=0)
    ahead = 10_000 + DAY
    place.put("a.csv", events((1, 1, 4, 100), (1, 2, 4, ahead)), modified=0)
    assert place.land(946_684_800.0 + ahead).watermark == 946_684_800 + ahead
    place.put("b.csv", events((2, 1, 4, 10_050)), modified=0)
    assert place.land(946_684_800.0 + 10_100).watermark == 946_684_800 + 10_100


def test_the_last_look_is_the_last_one_that_could_be_judged(tmp_path: Path) -> None:
    place = Place(tmp_path)
    versions = []
    for number, rows in enumerate((30, 30, 5, 30)):
        place.put(f"{number}.csv", events(*((100 * number + n, 1, 4, 100 * number + n) for n in range(rows))))
        versions.append(place.land().dataset)
        record = json.dumps({"model_name": NAME}).encode()
        place.store.put_new(f"drift/{LANDED}/{versions[-1].version}/{number}.json", record)
    assert last_look(place.store, versions[3], NAME, versions[0], 10) == versions[2]
    assert last_look(place.store, versions[2], NAME, versions[0], 10) == versions[0], (
        "five events after the second could not be judged"
    )
    assert last_look(place.store, versions[3], "another", versions[0], 10) == versions[0]
    assert last_look(place.store, versions[0], NAME, None, 10) is None
    assert content(versions[0]) != content(versions[1])


def test_the_anchor_is_a_former_champion(world: World) -> None:
    assert find_anchor(world.store, world.first, world.newer.last, DRIFT) is None
    second = world.seal(world.stage())
    ModelRegistry(world.store).promote(NAME, second.version, expected=1, reason="the second", now=datetime.now(UTC))
    found = find_anchor(world.store, second, world.newer.last, DRIFT)
    assert found is not None and found.version == world.first.version and len(found.reference.sample)
    assert find_anchor(world.store, second, world.newer.last, DriftSettings(anchor_days=0)) is None
    assert find_anchor(world.store, second, world.older.last, DRIFT) is None, "the former champion is of the same time"
    watched = monitor_dataset(world.store, world.newer, NAME, DRIFT, QUIET).result
    assert watched.anchor == world.first.version
