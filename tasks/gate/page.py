"""The decision record in readable form: Markdown for the Prefect UI, a plot, and a self-contained page that can be shared."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from configs.kinds import label_of
from configs.settings import model_option
from infra.pages import (
    GREEN,
    RED,
    Interval,
    count,
    data_uri,
    draw_intervals,
    duration,
    escaped,
    interval_colour,
    money,
    new_figure,
    png_bytes,
    render_template,
    svg_bytes,
    tidy,
    whole_numbers,
    zero_line,
)
from infra.version_names import shortened
from tasks.evaluation import Refit, ServedWindow
from tasks.gate.decision import CHAMPION_RANKED, Decision
from tasks.gate.tables import rule_tables, rules_markdown
from tasks.training import Began

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "began_note",
    "comparison_png",
    "next_in_markdown",
    "next_step",
    "outcome_words",
    "refit_note",
    "render_html",
    "render_markdown",
    "served_note",
    "summary",
]

TEMPLATE = "tasks/gate/templates/decision.html"
OUTCOMES = {"promoted": "✓", "held": "✗", "needs approval": "…", "not judged": "\N{EN DASH}"}


def render_markdown(decision: Decision) -> str:
    """Render the verdict, the reasons, what to do next, and the rules as Markdown. Versions have their short form."""
    lines = [
        f"## {outcome_words(decision.outcome)}: {_told(f'{decision.model_name} {decision.challenger}')}",
        "",
        f"{_told(_against(decision))}, on {decision.requests:,} requests of {_told(decision.dataset)} under "
        f"{escaped(decision.protocol)}.",
        "",
        *([f"{summary(decision)}", ""] if decision.champion else []),
        *([escaped(_approval(decision)), ""] if decision.approval else []),
        *[f"- {_told(reason)}" for reason in decision.reasons],
        *([""] if decision.reasons else []),
        *([_told(began_note(decision.began)), ""] if decision.began else []),
        *([f"**What serves:** {_told(refit_note(decision.refit))}", ""] if decision.refit else []),
        *[line for warning in decision.warnings for line in (f"**Warning:** {_told(warning)}", "")],
        f"**Next:** {next_in_markdown(decision)}",
        "",
        rules_markdown(decision),
    ]
    lines += [line for note in [*rating_notes(decision), *comparison_notes(decision)] for line in ("", note)]
    if decision.served_window is not None:
        lines += ["", served_note(decision.served_window)]
    return "\n".join(lines) + "\n"


def outcome_words(outcome: str) -> str:
    """Return an outcome as a sign and words."""
    return f"{OUTCOMES[outcome]} {outcome.capitalize()}"


def next_in_markdown(decision: Decision) -> str:
    """Return what a person can do next as Markdown. Only the champion's name may hold markup."""
    return shortened(next_step(replace(decision, champion=decision.champion and escaped(decision.champion))))


def _told(text: str) -> str:
    return escaped(shortened(text))


def rating_notes(decision: Decision) -> list[str]:
    """Say how far the challenger's predicted ratings lie from those that users gave, if it predicts any."""
    found = decision.metrics.get("challenger", {})
    if "rmse" not in found:
        return []
    decides = "" if decision.settings.get("max_rmse") is not None else " promotion.max_rmse is empty, so this decides nothing."
    return [f"Predicted ratings: RMSE {found['rmse']:.4f}, MAE {found['mae']:.4f} on the same requests.{decides}"]


def comparison_notes(decision: Decision) -> list[str]:
    """Say what the comparison with the champion could have found, what it allows for, and how new its requests are."""
    if not decision.comparisons:
        return []
    overall, notes = decision.comparisons[0], []
    if math.isfinite(overall.detectable):
        share = "" if overall.detectable_share is None else f" ({overall.detectable_share:.0%} of the champion's)"
        notes.append(
            f"With this holdout, a true NDCG@10 difference of {overall.detectable:.4f}{share} is detected with 80 % power."
        )
    if decision.level is not None:
        per_year = decision.settings.get("decisions_per_year", 1)
        said = (
            f"The level of this comparison is {decision.level:.2g}: alpha is shared by the {per_year} decisions of a year, so that few "
            "years have a promotion that was luck."
        )
        if decision.training_noise:
            learnt = f" (corrected by {decision.past_retrainings} pairs of past retrainings)" if decision.past_retrainings else ""
            said += f" It allows for trainings of one recipe that differ by {decision.training_noise:.1%} (standard deviation){learnt}."
        notes.append(said)
    if decision.fresh_requests is not None:
        notes.append(
            f"Of the {decision.requests:,} requests, {decision.fresh_requests:,} are fresh: their target event is not in the champion's "
            "dataset. The champion may have been chosen on the others."
        )
    if decision.excluded_requests:
        notes.append(
            f"{decision.excluded_requests:,} requests are not compared, because the champion has learnt their user and item."
        )
    return notes


def served_note(found: ServedWindow) -> str:
    """Say how the ranking of long histories differs between a server and the gate."""
    measured = "all" if found.requests == found.above else f"{found.requests:,} of the"
    return (
        f"Served window: after more than {found.max_length} events, a server has read the latest {found.max_length} to "
        f"{2 * found.max_length}, but the gate reads the latest {found.max_length}. On {measured} {found.above:,} such requests, the "
        f"two top tens have {found.overlap:.1%} of their items in common ({found.identical:.0%} are identical), and NDCG@10 is "
        f"{found.served:.4f} as served, {found.judged:.4f} as judged (95 % interval of the difference {found.ci_low:+.4f} to "
        f"{found.ci_high:+.4f})."
    )


def refit_note(refit: Refit) -> str:
    """Say which weights are served, and what the training on all events was."""
    compared = (
        ""
        if refit.agreement is None
        else f" Its top tens have {refit.agreement:.0%} of their items in common with those of the judged weights, for "
        f"{refit.users:,} users (at least {refit.least_agreement:.0%} is required)."
    )
    if not refit.served:
        return f"the judged weights, because the training on all events failed its checks. {refit.reason}"
    return (
        f"a refit. The model was trained again on all {refit.events:,} events, also those that the evaluation held out, for "
        f"{count(refit.epochs, 'epoch')} in {duration(refit.seconds)}.{compared} All other figures here are those of the judged weights."
    )


def began_note(began: Began) -> str:
    """Say with which weights the challenger's training began, what it learnt, and what that cost beside a training of the other kind."""
    warm, other = began.warm, began.other
    if warm is None:
        took = f"That took {duration(began.seconds)}."
        said, named = f"It was trained from scratch{f', because {began.why}' if began.why else ''}. {took}", "warm start"
    else:
        said = (
            f"It began warm, with the weights of {warm.parent}, {count(warm.generation, 'warm start')} after a training from scratch. It "
            f"learnt {warm.events:,} of {warm.all_events:,} events: those of {count(warm.new_users, 'user')} with new events, and of "
            f"{count(warm.old_users, 'other user')}. That took {duration(began.seconds)}."
        )
        named = "training from scratch"
    if other is None:
        return f"{said} There was no {named} before it."
    paid = "" if other.usd is None else f" and cost {money(other.usd)}"
    return f"{said} The last {named} ({other.version}) took {duration(other.seconds)}{paid}."


def render_html(decision: Decision) -> bytes:
    """Render one self-contained page: a summary, figures with intervals, slices, every rule, and notes on how to read them."""
    figure = _comparison_figure(decision)
    first = [name for name in ("challenger", "champion") if name in decision.metrics]
    return render_template(
        TEMPLATE,
        decision=decision,
        against=_against(decision),
        summary=summary(decision),
        approval=_approval(decision) if decision.approval else "",
        models=[(label_of(name), name) for name in dict.fromkeys([*first, *decision.metrics])],
        metrics=["hr@10", "ndcg@10", "mrr@10"],
        tables=rule_tables(decision),
        slices=decision.comparisons[1:],
        notes=[*rating_notes(decision), *comparison_notes(decision)],
        chart=data_uri(svg_bytes(figure)) if figure else "",
        served=served_note(decision.served_window) if decision.served_window else "",
        began=began_note(decision.began) if decision.began else "",
        refit=refit_note(decision.refit) if decision.refit else "",
    ).encode()


def next_step(decision: Decision) -> str:
    """Return what a person can do next, with the command to run."""
    named = model_option(decision.model_name)
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
    if decision.outcome == "not judged":
        return f"{stays}. The version is stored: judge it when the machine is less busy, with `recsys model promote {version}`."
    if decision.broken:
        return (
            f"the version cannot be served, so its promotion cannot be forced; {stays}. Find the cause "
            f"(`recsys model show {version}`), and retrain."
        )
    return (
        f"{stays}, and the next retraining tries again. `recsys model show {version}` shows every figure. To override the gate, run "
        f"`recsys model promote {version} --force --reason WHY`; the promotion log records the user and the reason."
    )


def summary(decision: Decision) -> str:
    """Describe how challenger and champion compare, and whether the holdout could have shown a difference."""
    if any(rule.name == CHAMPION_RANKED and rule.verdict == "failed" for rule in decision.rules):
        return (
            "The champion could not be ranked, so the two could not be compared. The stored version itself was loaded and ranked."
        )
    if decision.outcome == "not judged":
        return "The machine was too busy to check the stored version, so it was not judged. This says nothing about the version."
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
    if decision.outcome == "held" and overall.ci_low <= 0 <= overall.ci_high and 0 < overall.detectable < math.inf:
        said += (
            f" A true gain below {overall.detectable:.4f} would usually go undetected on a holdout of this size, so this does "
            "not prove that the two are equal."
        )
    return said


def comparison_png(decision: Decision) -> bytes | None:
    """Return the plot of challenger against champion as a PNG, or None for a first model."""
    figure = _comparison_figure(decision)
    return None if figure is None else png_bytes(figure)


def _comparison_figure(decision: Decision) -> Figure | None:
    """Plot challenger against champion, or return None for a first model.

    Left: histogram of the per-request differences, challenger - champion. Right: their mean with its 95 % interval, overall and
    by slice. Most requests tie at zero. The title states their number, because a bar for them would dwarf the others.
    """
    found = decision.differences
    if found is None:
        return None
    figure = new_figure(11, 3.9)
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    edges = np.linspace(-1, 1, len(found.counts) + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    for side, colour, label in (
        (centres < 0, RED, f"champion ranks better: {found.worse:,}"),
        (centres > 0, GREEN, f"challenger ranks better: {found.better:,}"),
    ):
        counts = np.array(found.counts)[side]
        left.bar(centres[side], counts, width=edges[1] - edges[0], color=colour, edgecolor="white", linewidth=0.5, label=label)
    zero_line(left)
    total = found.better + found.worse + found.tied
    left.set(
        xlim=(-1.02, 1.02),
        xlabel="NDCG@10 of a request, challenger - champion",
        ylabel="requests",
    )
    left.set_ylim(bottom=0, top=max(1.0, 1.1 * max(found.counts, default=0)))
    whole_numbers(left.yaxis)
    left.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    tidy(left, f"{found.tied:,} of {total:,} requests tie and are not shown", grid=None)
    draw_intervals(
        right,
        [
            Interval(
                f"{row.name} ({row.requests:,})",
                row.ci_low,
                row.difference,
                row.ci_high,
                interval_colour(row.ci_low, row.ci_high),
            )
            for row in decision.comparisons
        ],
    )
    zero_line(right)
    right.set(xlabel="NDCG@10, challenger - champion")
    tidy(right, "mean difference with its 95 % interval", grid="x")
    return figure


def _against(decision: Decision) -> str:
    against = f"the champion {decision.champion}" if decision.champion else "no champion: this is the first model"
    return f"Judged against {against}"


def _approval(decision: Decision) -> str:
    approval = decision.approval
    assert approval is not None
    verdict = "Approved" if approval.approved else "Rejected"
    return f"{verdict} by {approval.who} at {approval.when}{': ' + approval.note if approval.note else ''}."
