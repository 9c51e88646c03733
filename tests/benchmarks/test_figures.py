"""The figures in the docs are those that the results draw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import figures

ROOT = Path(__file__).parents[2]


def test_the_figure_in_the_docs_is_what_the_results_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["figures", "--out", str(tmp_path)])
    figures.main()
    drawn, kept = ((folder / "quality-cost.svg").read_text() for folder in (tmp_path, ROOT / "docs" / "benchmarks"))
    assert drawn == kept, "run `python -m benchmarks.figures`"
    assert all(f">{name}, from" in drawn for name in ("SS4Rec", "SASRec", "gSASRec", "eSASRec", "HSTU", "LRURec"))
