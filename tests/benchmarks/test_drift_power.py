from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.pipeline import drift_power
from benchmarks.pipeline.drift_power import KINDS, render, smallest
from tasks.monitoring.checks import MOST_CHECKS


def test_the_smallest_size_is_the_one_from_which_on_every_shift_is_found() -> None:
    assert smallest({"0": 0.0, "0.1": 0.4, "0.2": 0.8, "0.3": 1.0}) == 0.2
    assert smallest({"0": 1.0, "0.1": 1.0, "0.2": 0.5, "0.3": 1.0}) == 0.3
    assert smallest({"0": 1.0, "0.1": 0.1}) is None


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
    assert len({kind.check for kind in KINDS}) == len(KINDS) == 15 < MOST_CHECKS
    assert all(list(kind.sizes) == sorted(kind.sizes) for kind in KINDS)
