"""Figures of a comparison, as SVG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from tasks.comparison.results import Comparison, EntryResult

__all__ = ["colours", "intervals_svg", "learning_curves_svg"]

PALETTE = ("#1f6f8b", "#d9822b", "#5b4b8a", "#2f7d5b", "#b5533c", "#8a7a1f", "#3f5fa8", "#a04b7d")
GREY = "#7a7a7a"


def colours(comparison: Comparison) -> dict[str, str]:
    """Assign each entry a colour for all figures. Popularity is grey; SS4Rec gets the first colour, as in a run's figures."""
    entries = sorted(comparison.entries, key=lambda entry: (entry.kind != "ss4rec", entry.name))
    trained = [entry.name for entry in entries if entry.kind != "popularity"]
    chosen = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(trained)}
    return {entry.name: chosen.get(entry.name, GREY) for entry in comparison.entries}


def intervals_svg(comparison: Comparison) -> bytes:
    """Plot HR@10 and NDCG@10 of each entry: the mean over seeds, its 95 % interval over requests, and the spread over seeds."""
    from matplotlib.figure import Figure

    entries, chosen = list(reversed(comparison.entries)), colours(comparison)
    figure = Figure(figsize=(9.6, 0.9 + 0.42 * len(entries)), layout="constrained")
    for axes, (metric, title) in zip(
        figure.subplots(1, 2, sharey=True), (("hr@10", "HR@10"), ("ndcg@10", "NDCG@10")), strict=True
    ):
        for place, entry in enumerate(entries):
            found = entry.metrics[metric]
            colour = chosen[entry.name]
            if found.spread is not None:
                spread = (found.mean - found.spread, found.mean + found.spread)
                axes.plot(spread, (place, place), color=colour, linewidth=9, alpha=0.3, solid_capstyle="butt")
            axes.plot((found.low, found.high), (place, place), color=colour, linewidth=1.8)
            axes.plot(found.mean, place, "o", color=colour, markersize=6)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_yticks(range(len(entries)), [_plain(entry.name) for entry in entries])
        axes.set_ylim(-0.6, len(entries) - 0.4)
        axes.margins(x=0.06)
        _quiet(axes, "x")
    return _svg(figure)


def learning_curves_svg(comparison: Comparison) -> bytes | None:
    """Plot valid NDCG@10 and training loss by epoch: one line per seed, and a dot at the epoch that was kept.

    Losses of different models have different units, so each entry has its own loss axes. Returns None if no entry was trained in
    epochs.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    trained, chosen = [entry for entry in comparison.entries if _learns(entry)], colours(comparison)
    if not trained:
        return None
    columns = min(4, len(trained))
    rows = -(-len(trained) // columns)
    figure = Figure(figsize=(9.6, 3.4 + 1.9 * rows), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.4, 1.9 * rows]).ravel()
    valid_axes = above.subplots()
    loss_axes = below.subplots(rows, columns, squeeze=False).ravel()
    for axes, entry in zip(loss_axes, trained, strict=False):
        for number, curve in enumerate(entry.curves):
            label = _plain(entry.name) if number == 0 else "_"
            marker = "o" if len(curve.epochs) == 1 else None
            style: dict[str, Any] = {"color": chosen[entry.name], "linewidth": 1.3, "alpha": 0.85, "marker": marker}
            valid_axes.plot(curve.epochs, curve.valid, label=label, **style)
            axes.plot(curve.epochs, curve.losses, **style)
            if curve.best_epoch in curve.epochs:
                best = curve.valid[curve.epochs.index(curve.best_epoch)]
                valid_axes.plot(curve.best_epoch, best, "o", color=chosen[entry.name], markersize=5)
        axes.set_title(f"{_plain(entry.name)}: training loss", fontsize=9, loc="left")
    for axes in loss_axes[len(trained) :]:
        axes.set_visible(False)
    for entry in comparison.entries:
        if not _learns(entry):
            value = float(np.mean([curve.valid[-1] for curve in entry.curves if curve.valid]))
            valid_axes.axhline(value, color=chosen[entry.name], linestyle="--", linewidth=1.2, label=_plain(entry.name))
    valid_axes.set_title("valid NDCG@10; one line per seed, a dot at the epoch that was kept", fontsize=10, loc="left")
    valid_axes.legend(frameon=False, fontsize=9, ncols=min(4, len(comparison.entries)))
    for axes in (valid_axes, *loss_axes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _quiet(axes, "both")
    valid_axes.set_xlabel("epoch", fontsize=9)
    return _svg(figure)


def _learns(entry: EntryResult) -> bool:
    return any(any(curve.losses) for curve in entry.curves)


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # matplotlib would parse it as mathematics


def _quiet(axes: Any, grid: str) -> None:
    axes.grid(alpha=0.25, axis=grid)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _svg(figure: Any) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    # Without a date and with a fixed salt for its ids, the same comparison always gives the same file.
    with matplotlib.rc_context({"svg.hashsalt": "recsys", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()
