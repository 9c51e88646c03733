from __future__ import annotations

from tasks.search import TrialRecord, search_png, trial_rows

TRIALS = [
    TrialRecord(0, "complete", 0.1, 3, 5, 2.0, {"width": 8, "learning_rate": 0.00312345}, None),
    TrialRecord(1, "failed", None, None, 0, 0.1, {"width": 16}, "Training diverged."),
    TrialRecord(2, "complete", 0.3, 5, 5, 2.0, {"width": 16}, None),
    TrialRecord(3, "pruned", 0.4, 2, 2, 1.0, {"width": 16}, None),
    TrialRecord(4, "running", None, None, 0, None, {}, None),
]


def test_figures_are_pngs_whatever_the_trials() -> None:
    for trials, importance in ((TRIALS, {"width": 0.7, "loss": 0.3}), (TRIALS, {}), (TRIALS[3:4], {}), (TRIALS[:1], {})):
        png = search_png(trials, importance)
        assert png.startswith(b"\x89PNG") and len(png) > 5000


def test_rows_are_ordered_by_value_and_complete_trials_come_first() -> None:
    rows = trial_rows(TRIALS)
    assert [row["trial"] for row in rows] == [2, 0, 3, 1, 4]
    assert rows[1]["settings"] == "width 8, learning_rate 0.003123" and rows[3]["settings"] == "Training diverged."
    assert rows[4]["seconds"] == "" and rows[1]["epochs"] == "3 of 5"
