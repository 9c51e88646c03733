from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import synthetic
from tests.benchmarks.test_commands import run


# It takes every core for minutes, so no other test should run beside it.
@pytest.mark.full
@pytest.mark.nightly
def test_a_busy_machine_changes_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command fails if a verdict differs. Run from a shell, it has more cases by default."""
    data = synthetic.write_csv(tmp_path / "data", synthetic.interactions(80, 40, 30))
    rollbacks, decisions, load, parallel = 24, 12, 20, 6
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
