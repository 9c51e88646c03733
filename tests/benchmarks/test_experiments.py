"""The report recovers a known lift, by every attribution and window; `python -m benchmarks.serving.experiments` shows it with more runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.serving.experiments import ANALYSES, DAY, Case, main, run, truth
from tests.volume import volume

RUNS = volume(6, 200)


@pytest.mark.full
@pytest.mark.parametrize("case", [Case("A/A", 250, (0.2, 0.2)), Case("A/B", 250, (0.2, 0.35), named=False, early_s=2 * DAY)])
def test_a_known_difference_is_recovered_by_every_attribution_and_window(case: Case) -> None:
    found = [run(case, seed) for seed in range(RUNS)]
    for name, analysis in ANALYSES.items():
        true = truth(case.rates, analysis)
        low, high, difference = (np.array([each[name][key] for each in found]) for key in ("low", "high", "difference"))
        error = np.sqrt(np.mean(((high - low) / 2 / 1.96) ** 2) / RUNS)
        assert abs(difference.mean() - true) < 4 * error, name  # 4, because twelve means are checked
        assert ((low <= true) & (true <= high)).sum() >= binom.ppf(1e-4, RUNS, 0.95), name
        assert all(each[name]["trusted"] for each in found), name
    assert truth((0.2, 0.2), {}) == 0 and truth((0.2, 0.35), {}) > 0.05


def test_the_command_writes_and_prints_a_row_for_each_case_and_analysis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "experiments.json")
    monkeypatch.setattr(sys, "argv", ["experiments", "--runs", "2", "--users", "60", "--processes", "1", "--out", out])
    main()
    said = capsys.readouterr().out
    assert said.count("| A/A: ") == said.count("| A/B: ") == len(ANALYSES) and "| A/B, no request ids" in said
    assert Path(out).exists()
