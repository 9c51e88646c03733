"""A search as a plot and as table rows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.search.study import TrialRecord

__all__ = ["search_png", "trial_rows"]

COMPLETE, CUT = "#1f6f8b", "#b0b0b0"


def search_png(trials: Sequence[TrialRecord], importance: Mapping[str, float]) -> bytes:
    """Plot the trials of a search as a PNG.

    Left: the best valid NDCG@10 of each trial by its number, with a line for the best complete trial so far. Right: the
    importance of each parameter, if known.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10 if importance else 6, 3.8), dpi=120, layout="constrained", facecolor="white")
    left, *right = figure.subplots(1, 2 if importance else 1, squeeze=False)[0]
    groups = {
        "complete": (COMPLETE, "o", [t for t in trials if t.state == "complete"]),
        "cut off, failed or running": (CUT, "x", [t for t in trials if t.state != "complete" and t.value is not None]),
    }
    for label, (colour, marker, group) in groups.items():
        if group:
            values = [t.value or 0.0 for t in group]
            left.plot([t.number for t in group], values, marker, color=colour, markersize=5, label=f"{label}: {len(group)}")
    complete = groups["complete"][2]
    if complete:
        best = np.maximum.accumulate([t.value or 0.0 for t in complete])
        left.step([t.number for t in complete], best, where="post", color=COMPLETE, linewidth=1.2, label=f"best, {best[-1]:.4f}")
    left.set(xlabel="trial", ylabel="valid NDCG@10", title="value of each trial")
    left.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    left.legend(frameon=False, fontsize=8)
    left.grid(alpha=0.25)
    for axes in right:
        names = sorted(importance, key=lambda name: importance[name])
        axes.barh(names, [importance[name] for name in names], color=COMPLETE)
        axes.set(title="parameter importance (PED-ANOVA)")
    for axes in (left, *right):
        axes.title.set_fontsize(10)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def trial_rows(trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Return one row per trial: complete ones first, best first; those without a value last."""
    return [
        {
            "trial": trial.number,
            "state": trial.state,
            "valid NDCG@10": "" if trial.value is None else round(trial.value, 4),
            "best epoch": trial.best_epoch or "",
            "epochs": trial.epochs,
            "seconds": "" if trial.seconds is None else trial.seconds,
            **{name: _short(value) for name, value in trial.parameters.items()},
            "reason": trial.reason or "",
        }
        for trial in sorted(trials, key=lambda t: (t.state != "complete", -(t.value or 0.0), t.number))
    ]


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
