"""The etl's benchmark measures separate processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.pipeline import etl

pytestmark = [pytest.mark.full, pytest.mark.nightly]


def test_each_engine_is_measured_at_each_size_and_shown_with_its_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "etl.json"
    arguments = ["--sizes", "3000", "--engines", "ours", "pandas", "--times", "1", "--folder", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["etl", *arguments])
    etl.main()
    result = json.loads(out.read_text())
    assert result["movielens"][0]["rows"] == result["movielens"][0]["accepted"] == 100_000
    engines = result["sizes"][0]["engines"]
    assert all(found["median_peak_gib"] > 0.05 and found["median_cpu_s"] > 0.1 for found in engines.values())
    assert "| 3,000 | plain pandas |" in etl.render(result) and "3,000 by ours" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["etl.json"]
