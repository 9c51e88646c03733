from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import VersionCorruptError
from configs.settings import DriftSettings, MonitoringSettings
from tasks.datasets import read_table, write_dataset
from tasks.ingest import build_features, ingest
from tasks.ingest.validation import validate
from tasks.monitoring import check_rows, live_rows, monitor_dataset
from tasks.monitoring import run as monitoring
from tasks.monitoring.page import render_drift
from tasks.monitoring.run import champion_reference
from tests import synthetic
from tests.tasks.world import NAME, World

DRIFT = DriftSettings(alpha=0.03, resamples=800, min_rows=50)
QUIET = MonitoringSettings(live_requests=50, drawn_rows=200)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace Evidently, whose import takes seconds."""
    monkeypatch.setattr(monitoring, "draw_columns", lambda *_: b"<html>drawn</html>")


def test_the_champion_is_watched_on_what_it_has_not_seen(world: World, undrawn: None) -> None:
    found = monitor_dataset(world.store, world.newer, NAME, DRIFT, QUIET)
    result = found.result
    new = read_table(world.store, world.newer, "features")
    new = new[new["timestamp"] > world.older.last]
    assert result.champion == world.first.version and result.dataset == f"{world.newer.name}/{world.newer.version}"
    assert result.live is not None and result.live.live is not None and result.live.new_events == len(new)
    assert result.rows <= len(new) and result.first is not None and result.first > world.older.last
    keys = sorted(world.store.list(f"drift/{result.dataset}/"))
    assert [key.split(".", 1)[1] for key in keys] == ["evidently.html", "html", "json"]
    assert json.loads(world.store.get(keys[2])) == json.loads(json.dumps(result.to_dict()))
    page = world.store.get(keys[1]).decode()
    assert world.first.version in page and keys[0].rsplit("/", 1)[1] in page and "holdout, at training time" in page
    assert all(check.name in page for check in result.checks)
    assert champion_reference(world.store, world.first).quarantine is not None


def test_without_a_champion_the_earlier_events_are_the_reference(world: World, undrawn: None) -> None:
    result = monitor_dataset(world.store, world.newer, "another", DRIFT, QUIET).result
    assert result.champion is None and result.live is None
    assert {check.name: check.detail for check in result.checks}["live NDCG@10"] == "There is no champion yet."
    since = int(read_table(world.store, world.newer, "features")["timestamp"].median())
    later = monitor_dataset(world.store, world.newer, "another", DRIFT, QUIET, span=(since, None)).result
    assert later.first is not None and later.first >= since and later.rows > result.rows


def test_no_events_since_the_champion_are_too_few_to_judge_but_a_silent_feed_alarms(world: World) -> None:
    quiet = QUIET.model_copy(update={"live_requests": 0})
    same = monitor_dataset(world.store, world.older, NAME, DRIFT, quiet)
    assert same.result.verdict == "too small to judge" and same.result.rows == 0 and same.evidently is None
    assert same.page is not None
    assert {check.name: check.detail for check in same.result.checks}["live NDCG@10"] == "monitoring.live_requests is 0."
    wall = quiet.model_copy(update={"clock": "wall"})
    silent = monitor_dataset(world.store, world.older, NAME, DRIFT, wall).result
    assert silent.verdict == "drifted" and silent.drifted == ["freshness"]
    soon = monitor_dataset(world.store, world.older, NAME, DRIFT, wall, span=(None, world.older.last + 60)).result
    assert soon.verdict == "too small to judge"


def test_a_champion_whose_dataset_is_gone_is_compared_but_not_ranked(world: World, undrawn: None) -> None:
    world.store.delete(f"{world.older.prefix}/manifest.json")
    result = monitor_dataset(world.store, world.newer, NAME, DRIFT, QUIET).result
    assert result.live is None and result.rows > 0
    assert "no longer stored" in {check.name: check.detail for check in result.checks}["live NDCG@10"]


def test_a_reference_that_was_edited_is_refused(world: World) -> None:
    world.store.put(f"{world.first.prefix}/reference_history.json", b"{}")
    with pytest.raises(VersionCorruptError, match=r"reference_history\.json differs"):
        monitor_dataset(world.store, world.newer, NAME, DRIFT, QUIET)


def test_a_page_that_cannot_be_drawn_does_not_cost_the_verdict(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> bytes:
        raise RuntimeError("no ink")

    monkeypatch.setattr(monitoring, "draw_columns", fails)
    monkeypatch.setattr(monitoring, "render_drift", fails)
    found = monitor_dataset(world.store, world.newer, NAME, DRIFT, QUIET)
    assert found.page is None and found.evidently is None and found.result.checks
    assert "Evidently's page could not be drawn" in caplog.text and len(list(world.store.list("drift/"))) == 1


def test_the_page_says_what_drifted_and_what_was_not_judged(world: World, undrawn: None, tmp_path: Path) -> None:
    frame = synthetic.interactions(80, 40, 25).assign(rating=1)
    frame["user_id"] += 1000
    frame["timestamp"] += 10**8
    frame.loc[frame.index[:30], "rating"] = 99
    base = pd.concat([synthetic.interactions(80, 40, 25), frame])
    data = world.settings.data.model_copy(update={"local_path": synthetic.write_csv(tmp_path / "more", base)})
    source = ingest(data)
    validated = validate(source.tables, world.settings.validation, 2_000_000_000)
    written = write_dataset(world.store, source.name, validated, build_features(validated.interactions), source.source_hashes)
    result = monitor_dataset(world.store, written, NAME, DRIFT, QUIET).result
    assert result.verdict == "drifted" and "rating" in result.drifted
    set_aside = {check.name: check.detail for check in result.checks}["quarantine"]
    assert set_aside == "30 of 2,000 rows, 1.5%, compared with 0.0% before", "the rows since the champion count, and not all rows"
    page = render_drift(result, None).decode()
    assert page.index("rating (mean") < page.index("<h2>Every check</h2>") and 'class="badge drifted"' in page
    assert page.index('<tr class="drifted">') < page.index('<tr class="stable">') and "Evidently" not in page
    rows = check_rows(result)
    assert {row["check"] for row in rows} == {check.name for check in result.checks}
    assert all(isinstance(value, str) for row in rows for value in row.values())
    assert result.live is not None and next(row["requests"] for row in live_rows(result.live)) == "50"
