"""The decision record in readable form: Markdown for the Prefect UI, a plot, and a self-contained page that can be shared."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np

from configs.settings import RetrainSettings
from tasks.gate.decision import CHAMPION_RANKED, GROUPS, Decision, RuleComparison

__all__ = ["DEFAULT_NAME", "comparison_png", "next_step", "render_html", "render_markdown", "summary"]

TEMPLATES = Path(__file__).parent / "templates"
DEFAULT_NAME = RetrainSettings().model_name  # commands use it by default
AHEAD, BEHIND, UNDECIDED = "#2f7d5b", "#b5533c", "#5f6b73"


def render_markdown(decision: Decision) -> str:
    """Render the outcome, the reasons and a table of the rules as Markdown."""
    lines = [
        f"## {decision.outcome.capitalize()}: {decision.challenger}",
        "",
        f"{_against(decision)}, on {decision.requests} requests of {decision.dataset} under `{decision.protocol}`.",
        "",
        *([f"{summary(decision)}", ""] if decision.champion else []),
        *([_approval(decision), ""] if decision.approval else []),
        *[f"- {reason}" for reason in decision.reasons],
        *([""] if decision.reasons else []),
        f"**Next:** {next_step(decision)}",
        "",
        *_metrics_table(decision),
        "| group | rule | figure | must be | verdict |",
        "|---|---|---|---|---|",
    ]
    for rule in decision.rules:
        lines.append(f"| {GROUPS[rule.group]} | {rule.name} | {rule.shown_figure} | {rule.shown_bound} | {rule.verdict} |")
    if decision.detectable_difference is not None:
        lines += [
            "",
            f"With this holdout, a true NDCG@10 difference of {decision.detectable_difference:.4f} is detected with 80 % power.",
        ]
    return "\n".join(lines) + "\n"


def render_html(decision: Decision) -> bytes:
    """Render one self-contained page: a summary, figures with intervals, slices, every rule, and notes on how to read them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["signed"] = lambda value: f"{value:+.4f}"
    png = comparison_png(decision)
    names = {"challenger": "challenger", "champion": "champion", "ncf": "NCF", "popularity": "popularity"}
    first = [name for name in ("challenger", "champion") if name in decision.metrics]
    return (
        environment.get_template("decision.html")
        .render(
            decision=decision,
            against=_against(decision),
            summary=summary(decision),
            approval=_approval(decision) if decision.approval else "",
            models=[(names.get(name, name), name) for name in dict.fromkeys([*first, *decision.metrics])],
            metrics=["hr@10", "ndcg@10", "mrr@10"],
            groups=GROUPS,
            slices=decision.comparisons[1:],
            picture=f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else "",
        )
        .encode()
    )


def next_step(decision: Decision) -> str:
    """Return what a person can do next, with the command to run."""
    named = "" if decision.model_name == DEFAULT_NAME else f" --set model_name={decision.model_name}"
    version = f"{decision.challenger}{named}"
    if decision.outcome == "promoted":
        before = f"{decision.champion}, the previous champion" if decision.champion else "an earlier version, once there is one"
        return (
            f"nothing. Servers that follow the model load it automatically; `recsys model rollback{named}` returns to {before}."
        )
    if decision.outcome == "needs approval":
        return (
            f"approve or reject it. If the run is paused, use Resume on its page in the Prefect UI; later, use "
            f"`recsys model promote {version}`."
        )
    stays = f"{decision.champion} stays champion" if decision.champion else "there is still no champion"
    if decision.broken:
        return (
            f"the version cannot be served, so its promotion cannot be forced; {stays}. Find the cause "
            f"(`recsys model show {version}`), and retrain."
        )
    return (
        f"{stays}, and the next retraining tries again. `recsys model show {version}` shows every figure. To override the gate, run "
        f"`recsys model promote {version} --force --reason ...`; the promotion log records the user and the reason."
    )


def _metrics_table(decision: Decision) -> list[str]:
    """Return a table of how well each model ranked the gate's requests."""
    order = dict.fromkeys(["challenger", "champion", *decision.metrics])
    shown = {name: found for name in order if {"hr@10", "ndcg@10"} <= set(found := decision.metrics.get(name, {}))}
    if not shown:
        return []
    rows = [f"| {name} | {found['hr@10']:.4f} | {found['ndcg@10']:.4f} |" for name, found in shown.items()]
    return ["| model | HR@10 | NDCG@10 |", "|---|---|---|", *rows, ""]


def summary(decision: Decision) -> str:
    """Describe how challenger and champion compare, and whether the holdout could have shown a difference."""
    if any(rule.name == CHAMPION_RANKED and rule.verdict == "failed" for rule in decision.rules):
        return (
            "The champion could not be ranked, so the two could not be compared. The stored version itself was loaded and ranked."
        )
    if not decision.metrics:
        return "The stored version could not be loaded or ranked, so no comparison was made."
    if not decision.comparisons:
        return (
            "This is the first model: there is no champion to compare it with, so it had to pass the floors, beat the baselines, "
            "and load and answer as trained."
        )
    overall = decision.comparisons[0]
    if decision.differences is not None and not decision.differences.better + decision.differences.worse:
        return f"The challenger ranks all {overall.requests:,} requests exactly as the champion does."
    direction = "above" if overall.difference > 0 else "below"
    said = (
        f"On the same {overall.requests:,} requests, the challenger's NDCG@10 is {overall.challenger:.4f}, "
        f"{abs(overall.difference):.4f} {direction} the champion's {overall.champion:.4f} (95 % interval of the difference "
        f"{overall.ci_low:+.4f} to {overall.ci_high:+.4f})."
    )
    if decision.outcome == "held" and overall.ci_low <= 0 <= overall.ci_high and overall.detectable > 0:
        said += (
            f" A true gain below {overall.detectable:.4f} would usually go undetected on a holdout of this size, so this does "
            "not prove that the two are equal."
        )
    return said


def comparison_png(decision: Decision) -> bytes | None:
    """Plot challenger against champion as a PNG, or return None for a first model.

    Left: histogram of the per-request differences, challenger - champion. Right: their mean with its 95 % interval, overall and
    by slice. Most requests tie at zero. The title states their number, because a bar for them would dwarf the others.
    """
    found = decision.differences
    if found is None:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 3.9), dpi=120, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    edges = np.linspace(-1, 1, len(found.counts) + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    for side, colour, label in (
        (centres < 0, BEHIND, f"champion ranks better: {found.worse:,}"),
        (centres > 0, AHEAD, f"challenger ranks better: {found.better:,}"),
    ):
        counts = np.array(found.counts)[side]
        left.bar(centres[side], counts, width=edges[1] - edges[0], color=colour, edgecolor="white", linewidth=0.5, label=label)
    left.axvline(0, color="black", linewidth=0.8, alpha=0.6)
    total = found.better + found.worse + found.tied
    left.set(
        xlim=(-1.02, 1.02),
        xlabel="NDCG@10 of a request, challenger - champion",
        ylabel="requests",
        title=f"{found.tied:,} of {total:,} requests tie and are not shown",
    )
    left.set_ylim(bottom=0, top=max(1.0, 1.1 * max(found.counts, default=0)))
    left.yaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    _forest(right, decision.comparisons)
    for axes in (left, right):
        axes.title.set_fontsize(10)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _forest(axes: object, comparisons: list[RuleComparison]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    places = np.arange(len(comparisons))[::-1]
    for place, row in zip(places, comparisons, strict=True):
        colour = AHEAD if row.ci_low > 0 else BEHIND if row.ci_high < 0 else UNDECIDED
        axes.plot([row.ci_low, row.ci_high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(row.difference, place, "o", color=colour, markersize=6 if row.name == "all requests" else 4.5)
    axes.axvline(0, color="black", linewidth=0.8, alpha=0.6)
    axes.set_yticks(places, [f"{row.name} ({row.requests:,})" for row in comparisons])
    axes.set_ylim(-0.6, len(comparisons) - 0.4)
    axes.set(xlabel="NDCG@10, challenger - champion", title="mean difference with its 95 % interval")
    axes.grid(axis="x", alpha=0.25)


def _against(decision: Decision) -> str:
    against = f"the champion {decision.champion}" if decision.champion else "no champion: this is the first model"
    return f"Judged against {against}"


def _approval(decision: Decision) -> str:
    approval = decision.approval
    assert approval is not None
    verdict = "Approved" if approval.approved else "Rejected"
    return f"{verdict} by {approval.who} at {approval.when}{': ' + approval.note if approval.note else ''}."
