"""The report recovers a known lift, by every attribution and window; `python -m benchmarks.serving.experiments` shows it at length."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from benchmarks.serving.experiments import ANALYSES, DAY, Case, measured, render
from tests.volume import volume

RUNS = volume(10, 200)


@pytest.mark.parametrize("case", [Case("A/A", 300, (0.2, 0.2)), Case("A/B", 300, (0.2, 0.35), named=False, early_s=2 * DAY)])
def test_a_known_difference_is_recovered_by_every_attribution_and_window(case: Case) -> None:
    rows = measured(case, RUNS, seed=1)
    assert [row["analysis"] for row in rows] == list(ANALYSES)
    for row in rows:
        assert row["trusted"] == 1, row
        low, high = row["mean_interval"]
        half = (high - low) / 2 * 4 / 1.96  # four standard errors: twelve rows are looked at
        assert abs(row["mean"] - row["truth"]) <= half, row
        assert row["planned_holds"] * RUNS >= binom.ppf(1e-4, RUNS, 0.95), row
        assert row["all_looks_hold"] * RUNS >= binom.ppf(1e-4, RUNS, 0.95), row
    made = render({"rows": rows, "runs": RUNS, "users": case.users})
    assert f"| {case.name}: value, any |" in made and made.count("\n") >= len(ANALYSES) + 1
