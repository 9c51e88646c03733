from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import synthetic
from tests.benchmarks.test_commands import run
from tests.volume import volume


@pytest.mark.full
def test_a_busy_machine_changes_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command fails if a verdict differs. By default it has many more cases, which take half an hour."""
    data = synthetic.write_csv(tmp_path / "data", synthetic.interactions(80, 40, 30))
    rollbacks, decisions, load = volume(3, 24), volume(4, 12), volume(4, 20)
    parallel = volume(1, 6)
    counts = ["--rollbacks", str(rollbacks), "--decisions", str(decisions), "--load", str(load), "--parallel", str(parallel)]
    out = tmp_path / "busy.json"
    run(monkeypatch, "pipeline.busy_machine", "--data", str(data), *counts, "--out", str(out))
    cases = json.loads(out.read_text())["cases"]
    assert sum(case["times"] for case in cases) == sum(case["same"] for case in cases) == rollbacks + decisions
    verdicts = {case["name"]: case["quiet"] for case in cases}
    assert verdicts["rollback to a sound version"] == "returned"
    assert verdicts["rollback to a version above the limits of time"] == "returned, warned of max_load_s, max_request_s"
    assert verdicts["rollback to a version that answers otherwise"].startswith("refused: ")
    assert verdicts["gate on a better challenger"] == "promoted"
    assert "better than the champion" in verdicts["gate on the champion itself"]
    assert verdicts["gate on a challenger above the limits of time"] == "held: seconds to load, seconds for a request"
    assert verdicts["gate on a version that answers otherwise"] == "held: loads and answers as trained"
