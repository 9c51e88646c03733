"""Figures and tables for the Prefect UI."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.recommender import EpochReport

__all__ = ["metrics_rows", "paired_differences_png", "training_curve_png"]

COLOURS = {"ss4rec": "#1f6f8b", "ncf": "#d9822b", "popularity": "#7a7a7a"}


def training_curve_png(reports: Mapping[str, Sequence[EpochReport]]) -> bytes:
    """Training loss and valid NDCG@10 by epoch for each model that has epochs; the kept epoch is marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    loss_axes, valid_axes = figure.subplots(1, 2)
    for name, epochs in reports.items():
        if len(epochs) < 2:
            continue
        colour, numbers = COLOURS.get(name), [report.epoch for report in epochs]
        loss_axes.plot(numbers, [report.loss for report in epochs], color=colour, label=name)
        valid = [report.valid["ndcg@10"] for report in epochs]
        valid_axes.plot(numbers, valid, color=colour, label=name)
        best = epochs[-1].best_epoch
        valid_axes.plot(best, epochs[best - 1].valid["ndcg@10"], "o", color=colour)
        valid_axes.annotate(
            f"kept: {best}",
            (best, epochs[best - 1].valid["ndcg@10"]),
            xytext=(0, -14),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    for axes, title in ((loss_axes, "training loss"), (valid_axes, "valid NDCG@10")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return _png(figure)


def paired_differences_png(differences: npt.NDArray[np.float64], interval: tuple[float, float]) -> bytes:
    """Histogram of per-request NDCG@10 differences, challenger - champion, with their mean and its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.hist(differences, bins=np.linspace(-1, 1, 42).tolist(), color=COLOURS["ss4rec"], alpha=0.8, log=True)
    axes.axvline(float(differences.mean()), color="black", linewidth=1.2, label=f"mean {differences.mean():+.4f}")
    axes.axvspan(*interval, color="black", alpha=0.15, label=f"95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}")
    axes.set(xlabel="NDCG@10, challenger - champion, of one request", ylabel="requests (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def metrics_rows(evaluation: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Table rows of {model: {slice: {metric: value}}}; a slice with no requests has no row."""
    return [
        {"model": model, "slice": part, **{name: _shown(value) for name, value in values.items()}}
        for model, parts in evaluation.items()
        for part, values in parts.items()
        if values
    ]


def _shown(value: float) -> float | int:
    return int(value) if float(value).is_integer() and value > 1 else round(value, 4)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
