"""The benchmark of general serving runs every model through a server, at a small volume."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.serving import general

pytestmark = pytest.mark.full


@pytest.mark.nightly
def test_each_model_answers_all_requests_and_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "general.json"
    small = ["--items", "300", "--users", "40", "--distinct", "20", "--seconds", "1", "--connections", "2", "--rate", "20"]
    monkeypatch.setattr(sys, "argv", ["general", *small, "--out", str(out)])
    general.main()
    result = json.loads(out.read_text())
    assert [row["model"] for row in result["rows"]] == [kind.name for kind in general.kinds()]
    assert all(row["answers_s"] > 0 and row["p99"] >= row["p50"] > 0 for row in result["rows"])
    assert len(general.render(result).splitlines()) == 2 + len(result["rows"])
