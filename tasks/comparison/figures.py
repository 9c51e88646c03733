"""Figures of a comparison, as SVG."""

from __future__ import annotations

from typing import Any

import numpy as np

from configs.kinds import colour_of
from infra.pages import BLUE, GREY, Interval, draw_intervals, new_figure, plain, series_colours, svg_bytes, tidy, whole_numbers
from tasks.comparison.results import EntryResult, ModelComparison

__all__ = ["colours", "intervals_svg", "learning_curves_svg"]


def colours(comparison: ModelComparison) -> dict[str, str]:
    """Assign each entry a colour for all figures, as in a run's figures: grey kinds are grey, and a blue one gets the first colour."""
    entries = sorted(comparison.entries, key=lambda entry: (colour_of(entry.kind) != BLUE, entry.name))
    grey = [entry.name for entry in entries if colour_of(entry.kind) == GREY]
    return series_colours([entry.name for entry in entries], grey=grey)


def intervals_svg(comparison: ModelComparison) -> bytes:
    """Plot HR@10 and NDCG@10 of each entry: the mean over seeds, its 95 % interval over requests, and the standard deviation over seeds."""
    entries, chosen = comparison.entries, colours(comparison)
    figure = new_figure(9.6, 0.9 + 0.42 * len(entries))
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ("hr@10", "ndcg@10"), strict=True):
        found = [(entry.name, entry.metrics[metric]) for entry in entries]
        for place, (name, estimate) in enumerate(found):
            if estimate.spread is not None:
                spread = (estimate.mean - estimate.spread, estimate.mean + estimate.spread)
                axes.plot(spread, (place, place), color=chosen[name], linewidth=9, alpha=0.3, solid_capstyle="butt")
        draw_intervals(axes, [Interval(name, each.low, each.mean, each.high, chosen[name]) for name, each in found])
        axes.margins(x=0.06)
        tidy(axes, metric.upper(), grid="x")
    return svg_bytes(figure)


def learning_curves_svg(comparison: ModelComparison) -> bytes | None:
    """Plot valid NDCG@10 and training loss by epoch: one line per seed, and a dot at the epoch that was kept.

    Losses of different models have different units, so each entry has its own loss axes. Returns None if no entry was trained in
    epochs.
    """
    trained, chosen = [entry for entry in comparison.entries if _learns(entry)], colours(comparison)
    if not trained:
        return None
    columns = min(4, len(trained))
    rows = -(-len(trained) // columns)
    figure = new_figure(9.6, 3.4 + 1.9 * rows)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.4, 1.9 * rows]).ravel()
    valid_axes = above.subplots()
    loss_axes = below.subplots(rows, columns, squeeze=False).ravel()
    for axes, entry in zip(loss_axes, trained, strict=False):
        for number, curve in enumerate(entry.curves):
            label = plain(entry.name) if number == 0 else "_"
            marker = "o" if len(curve.epochs) == 1 else None
            style: dict[str, Any] = {"color": chosen[entry.name], "linewidth": 1.3, "alpha": 0.85, "marker": marker}
            valid_axes.plot(curve.epochs, curve.valid, label=label, **style)
            axes.plot(curve.epochs, curve.losses, **style)
            if curve.best_epoch in curve.epochs:
                best = curve.valid[curve.epochs.index(curve.best_epoch)]
                valid_axes.plot(curve.best_epoch, best, "o", color=chosen[entry.name], markersize=5)
        tidy(axes, f"{entry.name}: training loss")
    for axes in loss_axes[len(trained) :]:
        axes.set_visible(False)
    for entry in comparison.entries:
        if not _learns(entry):
            value = float(np.mean([curve.valid[-1] for curve in entry.curves if curve.valid]))
            valid_axes.axhline(value, color=chosen[entry.name], linestyle="--", linewidth=1.2, label=plain(entry.name))
    tidy(valid_axes, "valid NDCG@10; one line per seed, a dot at the epoch that was kept")
    valid_axes.legend(frameon=False, fontsize=9, ncols=min(4, len(comparison.entries)))
    for axes in (valid_axes, *loss_axes):
        whole_numbers(axes.xaxis)
    valid_axes.set_xlabel("epoch", fontsize=9)
    return svg_bytes(figure)


def _learns(entry: EntryResult) -> bool:
    return any(any(curve.losses) for curve in entry.curves)
