"""A search as a plot and as table rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infra.pages import BLUE, PALE, new_figure, png_bytes, tidy, whole_numbers
from tasks.search.trials import TrialRecord

__all__ = ["search_png", "trial_rows"]


def search_png(trials: Sequence[TrialRecord], importance: Mapping[str, float]) -> bytes:
    """Plot the trials of a search as a PNG.

    Left: the best valid NDCG@10 of each trial by its number, with a line for the best complete trial so far. Right: the
    importance of each parameter, if known.
    """
    figure = new_figure(10 if importance else 6, 3.8)
    left, *right = figure.subplots(1, 2 if importance else 1, squeeze=False)[0]
    groups = {
        "complete": (BLUE, "o", [t for t in trials if t.state == "complete"]),
        "cut off, failed or running": (PALE, "x", [t for t in trials if t.state != "complete" and t.value is not None]),
    }
    for label, (colour, marker, group) in groups.items():
        if group:
            values = [t.value or 0.0 for t in group]
            left.plot([t.number for t in group], values, marker, color=colour, markersize=5, label=f"{label}: {len(group)}")
    complete = groups["complete"][2]
    if complete:
        best = np.maximum.accumulate([t.value or 0.0 for t in complete])
        left.step([t.number for t in complete], best, where="post", color=BLUE, linewidth=1.2, label=f"best, {best[-1]:.4f}")
    left.set(xlabel="trial", ylabel="valid NDCG@10")
    whole_numbers(left.xaxis)
    left.legend(frameon=False, fontsize=8)
    tidy(left, "value of each trial")
    for axes in right:
        names = sorted(importance, key=lambda name: importance[name])
        axes.barh(names, [importance[name] for name in names], color=BLUE)
        tidy(axes, "parameter importance (PED-ANOVA)", grid=None)
    return png_bytes(figure)


def trial_rows(trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Return one row per trial: complete ones first, best first; those without a value last."""
    return [
        {
            "trial": trial.number,
            "state": trial.state,
            "valid NDCG@10": "" if trial.value is None else f"{trial.value:.4f}",
            "epochs": f"{trial.best_epoch or '-'} of {trial.epochs}",
            "seconds": "" if trial.seconds is None else f"{trial.seconds:.0f}",
            "settings": trial.reason or ", ".join(f"{name} {_short(value)}" for name, value in trial.parameters.items()),
        }
        for trial in sorted(trials, key=lambda t: (t.state != "complete", -(t.value or 0.0), t.number))
    ]


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
