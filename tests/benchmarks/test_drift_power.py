from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.pipeline import drift_power
from benchmarks.pipeline.drift_power import KINDS, START, WEEK_S, described, render, smallest, steady_feed
from configs.settings import DriftSettings
from tasks.datasets import Quarantine
from tasks.ingest import build_features
from tasks.monitoring import AS_ARRIVED, LONG_TERM, reference_of
from tasks.monitoring.drift import Beside, detect_drift, newest_slice, window_of
from tasks.monitoring.live_quality import LIVE, live_check
from tasks.monitoring.traits import Descriptions, traits_of


def test_the_smallest_size_is_the_one_from_which_on_every_shift_is_found() -> None:
    assert smallest({"0": 0.0, "0.1": 0.4, "0.2": 0.8, "0.3": 1.0}) == 0.2
    assert smallest({"0": 1.0, "0.1": 1.0, "0.2": 0.5, "0.3": 1.0}) == 0.3
    assert smallest({"0": 1.0, "0.1": 0.1}) is None


@pytest.mark.full
def test_the_benchmark_measures_and_renders_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "power.json"
    monkeypatch.setattr(drift_power, "VARIANTS", {"defaults": {}})
    monkeypatch.setattr(sys, "argv", ["drift_power", "--seeds", "1", "--checks", "quarantine", "--out", str(out)])
    drift_power.main()
    result = json.loads(out.read_text())
    (row,) = result["rows"]
    assert row["check"] == "quarantine" and row["found"]["0"] == 0 and row["found"]["0.1"] == 1 and row["smallest"] == 0.03
    assert "| quarantine |" in render(result) and "| found |" in render(result)


def test_every_check_except_live_quality_has_a_shift() -> None:
    feed = build_features(steady_feed(100, 13))
    begin, settings = START + 12 * WEEK_S, DriftSettings()
    items = described(feed)
    older, newest = newest_slice(feed, settings, since=begin)
    reference = reference_of(older, items, settings, 0, Quarantine(1000, 1))
    beside = Beside(newest, reference, [live_check(None, "", settings)])
    window = window_of(older, newest, begin + WEEK_S)
    found = detect_drift(reference, newest, items, settings, window=window, quarantine=Quarantine(1000, 1), beside=beside).result
    every, planted = {check.name for check in found.checks}, {kind.check for kind in KINDS}
    most = traits_of(reference.sample, Descriptions(items)).most_checks
    assert len(every) == len(found.checks) == most == 29 and len(planted) == len(KINDS) and planted < every
    for label in (AS_ARRIVED, LONG_TERM):
        assert any(name.endswith(label) for name in planted), label
    newest_slices = {name for name in every if not name.endswith((AS_ARRIVED, LONG_TERM))}
    assert newest_slices - planted == {LIVE}
    assert all(list(kind.sizes) == sorted(kind.sizes) for kind in KINDS)
