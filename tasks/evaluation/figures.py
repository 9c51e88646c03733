"""Figures and tables for the Prefect UI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from configs.kinds import colour_of, label_of
from infra.pages import digits, new_figure, png_bytes, tidy, whole_numbers
from models.recommender import EpochReport
from tasks.evaluation.business_value import Figure, Value, ValueEstimate

__all__ = ["beyond_accuracy_rows", "metrics_rows", "rating_words", "training_curve_png", "value_rows"]

AT_TEN = ("ndcg@10", "hr@10", "mrr@10")


def training_curve_png(reports: Mapping[str, Sequence[EpochReport]]) -> bytes:
    """Draw training loss and valid NDCG@10 by epoch; the kept epoch is marked.

    Losses of different models have different units, so each model has its own axes. A model that does not train in epochs is
    shown as a dashed line. The NDCG@10 plot on the right leaves out epochs that were not measured on the valid requests.
    """
    trained = {name: epochs for name, epochs in reports.items() if any(report.loss for report in epochs)}
    figure = new_figure(3.4 * (len(trained) + 1) + 1, 3.4)
    *loss_axes, valid_axes = figure.subplots(1, len(trained) + 1, width_ratios=[1.0] * len(trained) + [1.5], squeeze=False)[0]
    for axes, (name, epochs) in zip(loss_axes, trained.items(), strict=True):
        losses = [report.loss for report in epochs]
        axes.plot([report.epoch for report in epochs], losses, color=colour_of(name), marker=_marker(epochs))
        tidy(axes, f"{name}: training loss")
    for name, epochs in reports.items():
        measured = {report.epoch: report.valid["ndcg@10"] for report in epochs if "ndcg@10" in report.valid}
        if not measured:
            continue
        if name not in trained:
            value = measured[max(measured)]
            valid_axes.axhline(value, color=colour_of(name), linestyle="--", linewidth=1.2, label=f"{name}, {value:.4f}")
            continue
        best = epochs[-1].best_epoch
        kept = f", {measured[best]:.4f} in epoch {best}" if best in measured else ""
        label = f"{name}{kept}"
        valid_axes.plot(list(measured), list(measured.values()), color=colour_of(name), marker=_marker(epochs), label=label)
        if best in measured:
            valid_axes.plot(best, measured[best], "o", color=colour_of(name), markersize=7)
    tidy(valid_axes, "valid NDCG@10; dot: kept epoch")
    valid_axes.margins(y=0.12)
    if valid_axes.lines:
        figure.legend(loc="outside lower center", ncols=len(reports), frameon=False, fontsize=9)
    for axes in (*loss_axes, valid_axes):
        axes.set(xlabel="epoch")
        whole_numbers(axes.xaxis)
    return png_bytes(figure)


def _marker(epochs: Sequence[EpochReport]) -> str | None:
    return "o" if len(epochs) == 1 else None  # a line needs two points to be visible


def metrics_rows(
    evaluation: Mapping[str, Mapping[str, Mapping[str, float]]],
    intervals: Mapping[str, Mapping[str, tuple[float, float]]],
) -> list[dict[str, str]]:
    """Return table rows for {model: {slice: {metric: value}}}, with the metrics at 10.

    All models over all requests come first, with the 95 % interval of NDCG@10, then all models by slice. A slice without requests
    has no row.
    """
    parts = dict.fromkeys(["all", *(part for found in evaluation.values() for part in found)])
    rows = []
    for part in parts:
        for model, found in evaluation.items():
            if not (values := found.get(part)):
                continue
            shown = {name.upper(): digits(values[name]) for name in AT_TEN if name in values}
            if part == "all" and "NDCG@10" in shown and (interval := intervals.get(model, {}).get("ndcg@10")):
                shown["NDCG@10"] += f" ({digits(interval[0])} to {digits(interval[1])})"
            rows.append({"slice": part, "model": label_of(model), **shown})
    return rows


def beyond_accuracy_rows(
    found: Mapping[str, Mapping[str, float]], intervals: Mapping[str, Mapping[str, tuple[float, float]]]
) -> list[dict[str, str]]:
    """Return a table row for each metric of {model: {metric: value}}, with a column for each model.

    There are more metrics than models, so the table stays narrow. A metric that is a mean over requests has its 95 % interval.
    """

    def cell(model: str, metric: str) -> str:
        value, interval = digits(found[model][metric]), intervals.get(model, {}).get(metric)
        return value if interval is None else f"{value} ({digits(interval[0])} to {digits(interval[1])})"

    names = dict.fromkeys(metric for values in found.values() for metric in values)
    return [
        {"metric": metric, **{label_of(model): cell(model, metric) for model, values in found.items() if metric in values}}
        for metric in names
    ]


def rating_words(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return the errors of predicted ratings of {model: {metric: value}} as a sentence, or an empty text if no model predicts any."""
    told = [
        f"{label_of(model)} RMSE {values['rmse']:.4f}, MAE {values['mae']:.4f}"
        for model, values in found.items()
        if "rmse" in values
    ]
    return f"Predicted ratings of the same requests: {'; '.join(told)}." if told else ""


def value_rows(value: Value, challenger: str) -> list[dict[str, str]]:
    """Return table rows with the estimated value of each model, and with the challenger's lead over each other model."""
    differences = {f"{challenger} - {name}": estimate for name, estimate in value.differences.items()}
    return [
        *[_value_row(name, estimate, value, "") for name, estimate in value.models.items()],
        *[_value_row(name, estimate, value, "+") for name, estimate in differences.items()],
    ]


def _value_row(name: str, estimate: ValueEstimate, value: Value, sign: str) -> dict[str, str]:
    def cell(figure: Figure, places: int) -> str:
        mean, low, high = (f"{number:{sign},.{places}f}" for number in (figure.mean, figure.low, figure.high))
        return f"{mean} ({low} to {high})"

    return {
        "model": name,
        "clicks / 1,000 requests": cell(estimate.clicks, 1),
        f"{value.actions} / 1,000": cell(estimate.watches, 1),
        f"{value.currency} / 1,000": cell(estimate.revenue, 2),
        f"{value.currency} / month": cell(estimate.revenue_per_month, 0),
    }
