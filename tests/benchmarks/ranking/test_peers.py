"""The comparison of the models: a row is tested against what was trained like it, and comparing again changes nothing else."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ranking import peers
from benchmarks.ranking.comparison import render
from benchmarks.tables import RESULTS


def test_a_comparison_without_training_keeps_the_command_and_the_hardware_of_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ending in ("json", "npz"):
        shutil.copy(RESULTS / f"peers_distilled.{ending}", tmp_path)
    kept = tmp_path / "peers_distilled.json"
    before = json.loads(kept.read_text(encoding="utf-8"))
    chosen = ["--protocols", "loo-exact", "--variants", "SS4Rec, distilled", "--jobs", "7"]
    monkeypatch.setattr(sys, "argv", ["peers", *chosen, "--out", str(kept), "--beside", str(RESULTS / "peers_further.json")])
    peers.main()
    after = json.loads(kept.read_text(encoding="utf-8"))
    assert {name: after[name] for name in ("measured", "hardware", "runs", "file")} == {
        name: before[name] for name in ("measured", "hardware", "runs", "file")
    }
    assert {test["variant"] for test in after["rows"][0]["compared"]} == {"HSTU, further", "LRURec, further"}


@pytest.mark.parametrize(
    ("variant", "against", "named"),
    [
        ("HSTU", ["SS4Rec", "SS4Rec, distilled"], None),
        ("HSTU, distilled", ["SS4Rec", "SS4Rec, distilled"], "SS4Rec, distilled"),
        ("HSTU, further", ["SS4Rec", "SS4Rec, distilled"], None),
        ("HSTU, further", ["SS4Rec, distilled"], "SS4Rec, distilled"),
        ("SS4Rec, distilled", ["HSTU", "LRURec"], "than LRURec"),
    ],
)
def test_a_row_is_compared_with_the_model_that_was_trained_like_it(variant: str, against: list[str], named: str | None) -> None:
    result: dict[str, Any] = json.loads((RESULTS / "peers_distilled.json").read_text(encoding="utf-8"))
    tests = [
        {"variant": name, "ranking": "masked", "difference": 0.02 - 0.01 * place, "ci_low": 0.0, "ci_high": 0.1, "p_value": 0.04}
        for place, name in enumerate(against)
    ]
    row = result["rows"][0] | {"variant": variant, "compared": tests}
    cell = next(cell for cell in render({"rows": [row]}).splitlines()[-1].split("|") if "p = " in cell)
    assert cell.strip().partition("p = 0.0400")[2] == (f", {named}" if named else "")
