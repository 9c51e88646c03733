"""Render the report of a replay: a self-contained page, rows for tables, and Markdown."""

from __future__ import annotations

import json
from dataclasses import replace

from infra.pages import count, data_uri, duration, escaped, folded, listed, markdown_table, money, render_template
from tasks.replay.figures import colours, differences_svg, quality_svg
from tasks.replay.log import ReplayLog, ReplayPlan
from tasks.replay.results import Difference, Estimate, PolicyResult, Replay

__all__ = ["difference_rows", "found_after", "headline", "policy_rows", "render_html", "render_markdown", "write_report"]

TEMPLATE = "tasks/replay/templates/replay.html"
CELL = 20  # characters of a line of a cell in the Prefect UI
PAGE, FIGURES = "replay/report.html", "replay/report.json"


def write_report(plan: ReplayPlan, found: Replay) -> Replay:
    """Store the page and the figures, replacing those of an earlier run. Return the result with the address of the page."""
    store = ReplayLog.of(plan).store
    addressed = replace(found, page=store.uri(PAGE))
    store.put(PAGE, render_html(addressed))
    store.put(FIGURES, json.dumps(addressed.to_dict(), indent=1, allow_nan=False).encode())
    return addressed


def headline(found: Replay) -> str:
    """Summarise the replay in a few sentences."""
    if not found.requests:
        return "Nothing happened after the base, so no policy could be measured."
    best = max(found.policies, key=lambda policy: policy.ndcg.mean)
    said = (
        f"{best.name} has the highest NDCG@10 on {found.requests:,} live requests of {found.users:,} users, {best.ndcg.mean:.4f} "
        f"({best.ndcg.low:.4f} to {best.ndcg.high:.4f}), with {count(len(best.trainings), 'retraining')}, {best.promoted} of "
        f"which became champion, at a cost of {money(best.cost)}."
    )
    pairs = [pair for pair in found.differences if best.name in (pair.a, pair.b)]
    beaten = [_other(pair, best.name) for pair in pairs if pair.significant]
    level = [_other(pair, best.name) for pair in pairs if not pair.significant]
    if beaten:
        said += f" It is shown to be better than {listed(beaten)}."
    if level:
        said += f" It is not shown to differ from {listed(level)}."
    return said


def policy_rows(found: Replay) -> list[dict[str, str]]:
    """Return one row per policy, in the order of the settings."""
    rows = []
    for policy in found.policies:
        held = len(policy.trainings) - policy.promoted
        row = {
            "policy": policy.name,
            "retrains": policy.rule,
            "NDCG@10": _estimate(policy.ndcg),
            "HR@10": _estimate(policy.hr),
            f"{found.items} unknown to it": f"{policy.unknown_share:.1%}",
            "slices that drifted": str(len(policy.drifts)),
            "retrained": f"{len(policy.trainings)}: {policy.promoted} promoted, {held} held" if policy.trainings else "0",
            "time": duration(policy.seconds) if policy.seconds else "none",
            "cost": money(policy.cost),
        }
        rows.append(row | ({f"finds {found.scenario}": found_after(found, policy)} if found.scenario else {}))
    return rows


def difference_rows(found: Replay) -> list[dict[str, str]]:
    """Return one row per pair of policies."""
    return [
        {
            "policies": f"{pair.a} less {pair.b}",
            "NDCG@10": _estimate(pair.ndcg, signed=True),
            "HR@10": _estimate(pair.hr, signed=True),
            "p, Holm": f"{pair.adjusted:.4f}",
            "in words": _verdict(pair),
        }
        for pair in found.differences
    ]


def found_after(found: Replay, policy: PolicyResult) -> str:
    """Return when the policy's monitoring first alarmed because of the planted shift, and by which checks.

    An alarm that the same slice raises without the shift does not count.
    """
    first = min(policy.moved, default=None)
    if first is None:
        return "never"
    late = first - found.scenario_slice
    return f"{'in its first slice' if late == 0 else f'{count(late, found.length)} late'}, by {listed(policy.moved[first])}"


def render_markdown(found: Replay, links: str = "") -> str:
    """Render the report for the Prefect UI. `links` are lines that lead to its page, as Markdown.

    The policies are columns, because a table of the UI has room for few columns and many rows.
    """
    parts = [f"## Replay {escaped(found.id)}", escaped(headline(found)), links]
    rows = policy_rows(found)
    if rows:
        names, *facts = rows[0]
        turned = [[escaped(fact), *(folded(row[fact], CELL) for row in rows)] for fact in facts]
        parts.append(markdown_table([escaped(names), *(folded(row[names], CELL) for row in rows)], turned))
    pairs = difference_rows(found)
    if pairs:
        cells = [[folded(cell, CELL) for cell in row.values()] for row in pairs]
        parts.append(markdown_table(list(map(escaped, pairs[0])), cells))
    return "\n\n".join(filter(None, parts)) + "\n"


def render_html(found: Replay) -> bytes:
    """Render the report as one page. Everything it shows is escaped."""
    differences = differences_svg(found)
    trainings = sorted(
        ((policy.name, each) for policy in found.policies for each in policy.trainings), key=lambda pair: pair[1].slice
    )
    points = {(policy.name, point.slice): point for policy in found.policies for point in policy.points}
    return render_template(
        TEMPLATE,
        replay=found,
        headline=headline(found),
        colours=colours(found),
        rows=policy_rows(found),
        pairs=difference_rows(found),
        marks=["strong" if pair.significant else "" for pair in found.differences],
        quality=data_uri(quality_svg(found)),
        differences=data_uri(differences) if differences else "",
        trainings=trainings,
        ends={part.number: part.end for part in found.slices},
        points=points,
        planted_at=next((part.start for part in found.slices if part.number == found.scenario_slice), None),
    ).encode()


def _verdict(pair: Difference) -> str:
    if not pair.significant:
        return "no difference is shown"
    better, worse = (pair.a, pair.b) if pair.ndcg.mean > 0 else (pair.b, pair.a)
    return f"{better} is better than {worse}"


def _estimate(found: Estimate, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{found.mean:{sign}.4f} ({found.low:{sign}.4f} to {found.high:{sign}.4f})"


def _other(pair: Difference, name: str) -> str:
    return pair.b if pair.a == name else pair.a
