from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.test_commands import run


@pytest.mark.full
@pytest.mark.nightly
def test_an_increment_is_timed_with_and_without_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "increment.json"
    run(monkeypatch, "pipeline.increment", "--interactions", "20000", "--rows", "2000", "--times", "1", "--out", str(out))
    result = json.loads(out.read_text())
    increment = result["increments"][0]
    assert increment["accepted"] + increment["duplicates"] == increment["rows"] == 2000 and increment["corrections"] == 100
    assert result["rewrite"]["dataset_rows"] == increment["dataset_rows"] == 20000 + 1800
    assert (
        result["read"]["dataset_rows"] == result["compact"]["dataset_rows"] == result["read_compacted"]["dataset_rows"] == 21800
    )
