"""Render the report of a replay: a self-contained page, rows for tables, and Markdown."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from tasks.comparison import duration
from tasks.replay.figures import colours, differences_svg, quality_svg
from tasks.replay.log import ReplayLog, ReplayPlan
from tasks.replay.results import Difference, Estimate, PolicyResult, Replay

__all__ = ["difference_rows", "found_after", "headline", "policy_rows", "render_html", "render_markdown", "write_report"]

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
        f"({best.ndcg.low:.4f} to {best.ndcg.high:.4f}), with {_count(len(best.trainings), 'retraining')}, {best.promoted} of "
        f"which became champion, at a cost of {_money(best.cost)}."
    )
    pairs = [pair for pair in found.differences if best.name in (pair.a, pair.b)]
    beaten = [_other(pair, best.name) for pair in pairs if pair.shown]
    level = [_other(pair, best.name) for pair in pairs if not pair.shown]
    if beaten:
        said += f" It is shown to be better than {_listed(beaten)}."
    if level:
        said += f" It is not shown to differ from {_listed(level)}."
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
            "films unknown to it": f"{policy.unknown_share:.1%}",
            "slices that drifted": str(len(policy.drifts)),
            "retrained": f"{len(policy.trainings)}: {policy.promoted} promoted, {held} held" if policy.trainings else "0",
            "time": duration(policy.seconds) if policy.seconds else "none",
            "cost": _money(policy.cost),
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
    """Return the slice of the scenario in which the policy's monitoring alarmed first."""
    first = min((number for number in policy.drifts if number >= found.scenario_slice), default=None)
    if first is None:
        return "never"
    late = first - found.scenario_slice
    return "in its first slice" if late == 0 else f"{_count(late, found.length)} late"


def render_markdown(found: Replay) -> str:
    """Render the report for the Prefect UI."""
    lines = [f"## Replay {found.id}", "", _escaped(headline(found)), ""]
    for rows in (policy_rows(found), difference_rows(found)):
        if rows:
            lines += [
                _row(list(rows[0])),
                "|---" * len(rows[0]) + "|",
                *(_row([_escaped(cell) for cell in row.values()]) for row in rows),
                "",
            ]
    return "\n".join([*lines, f"The page: `{found.page}`", ""])


def render_html(found: Replay) -> bytes:
    """Render the report as one page. Everything it shows is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"day": _day, "duration": duration}
    differences = differences_svg(found)
    trainings = sorted(
        ((policy.name, each) for policy in found.policies for each in policy.trainings), key=lambda pair: pair[1].slice
    )
    points = {(policy.name, point.slice): point for policy in found.policies for point in policy.points}
    page = environment.get_template("replay.html").render(
        replay=found,
        headline=headline(found),
        colours=colours(found),
        rows=policy_rows(found),
        pairs=difference_rows(found),
        shown=[pair.shown for pair in found.differences],
        quality=_inline(quality_svg(found)),
        differences=_inline(differences) if differences else "",
        trainings=trainings,
        ends={part.number: part.end for part in found.slices},
        points=points,
        planted_at=next((part.start for part in found.slices if part.number == found.scenario_slice), None),
        total=sum(each.seconds for _, each in trainings),
    )
    return page.encode()


def _verdict(pair: Difference) -> str:
    if not pair.shown:
        return "no difference is shown"
    better, worse = (pair.a, pair.b) if pair.ndcg.mean > 0 else (pair.b, pair.a)
    return f"{better} is better than {worse}"


def _estimate(found: Estimate, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{found.mean:{sign}.4f} ({found.low:{sign}.4f} to {found.high:{sign}.4f})"


def _other(pair: Difference, name: str) -> str:
    return pair.b if pair.a == name else pair.a


def _money(dollars: float) -> str:
    return f"${dollars:.2f}" if dollars >= 0.1 or dollars == 0 else f"${dollars:.3f}"


def _day(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Escape text so that neither Markdown nor the HTML in it interprets it."""
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("*", "\\*").replace("$", "\\$")


def _inline(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
