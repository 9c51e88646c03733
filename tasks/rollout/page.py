"""Tells where a rollout stands: one sentence, a table for the terminal and Markdown, and the page."""

from __future__ import annotations

from configs.settings import model_option
from infra.pages import count, duration, escaped, markdown_table, render_template
from infra.version_names import short_version
from tasks.rollout.comparison import Check
from tasks.rollout.deciding import Standing

__all__ = ["check_rows", "render_html", "render_markdown", "sentence", "worker_rows"]

TEMPLATE = "tasks/rollout/templates/rollout.html"
VERDICTS = {"worse": "✗ worse", "not worse": "✓ not worse", "not known": "\N{EN DASH} not known"}
MARKS = {"worse": "worse", "not worse": "passed", "not known": "open"}  # classes of the page's style
BADGES = {"wait": "under way", "advance": "advances", "ask": "needs approval", "return": "returned"}


def sentence(standing: Standing) -> str:
    """Return where the rollout stands, in one sentence."""
    entry, rollout = standing.entry, standing.rollout
    stage = f"stage {rollout.stage + 1} of {len(rollout.stages)}"
    new, old, why = short_version(entry.version), short_version(rollout.old), standing.why.removesuffix(".")
    if standing.move == "return":
        return f"{entry.name} returns from {new} to {old} for all users ({stage}): {why}."
    return f"{entry.name} {new} serves {rollout.share_at(standing.now):.0%} of the users instead of {old} ({stage}): {why}."


def check_rows(checks: list[Check]) -> list[dict[str, str]]:
    """Return the rows of the table of checks."""
    return [
        {
            "check": check.name,
            "verdict": VERDICTS[check.verdict],
            "old": _figure(check, check.old),
            "new": _figure(check, check.new),
            "users": f"{check.users[0]:,} / {check.users[1]:,}",
            "in words": check.said,
        }
        for check in checks
    ]


def worker_rows(standing: Standing) -> list[dict[str, str]]:
    """Return the rows of the table of workers."""
    return [
        {
            "worker": each.name,
            "new version": f"✗ refused: {each.refused}"
            if each.refused
            else "✓ serves it"
            if each.requests[1]
            else "… not asked yet",
            "requests, old": f"{each.requests[0]:,}",
            "requests, new": f"{each.requests[1]:,}",
        }
        for each in standing.workers
    ]


def render_markdown(standing: Standing) -> str:
    """Render the standing as Markdown, for the run in the Prefect UI."""
    rows = check_rows(standing.checks)
    lines = [
        f"## {BADGES[standing.move].capitalize()}",
        escaped(sentence(standing)),
        f"{_measured(standing)} {standing.part:.0%} of the stage's {duration(standing.settings.bake_s)} have passed.",
    ]
    if rows:
        lines.append(markdown_table([*rows[0]], [[escaped(cell) for cell in row.values()] for row in rows]))
    if refused := [each for each in standing.workers if each.refused]:
        lines.append("\n".join(f"- {escaped(f'{each.name} does not serve the new version: {each.refused}')}" for each in refused))
    if standing.unknown:
        lines.append(f"Not known: {escaped('; '.join(standing.unknown))}.")
    lines.append(f"`recsys rollout abort{model_option(standing.entry.name)}` returns to the old version at once.")
    return "\n\n".join(lines) + "\n"


def render_html(standing: Standing) -> bytes:
    """Render the standing as a self-contained page."""
    return render_template(
        TEMPLATE,
        standing=standing,
        entry=standing.entry,
        rollout=standing.rollout,
        badge=BADGES[standing.move],
        sentence=sentence(standing),
        measured=_measured(standing),
        checks=zip(check_rows(standing.checks), (MARKS[check.verdict] for check in standing.checks), strict=True),
        unknown=standing.unknown,
        workers=worker_rows(standing),
    ).encode()


def _measured(standing: Standing) -> str:
    old, new = standing.requests
    return f"{count(len(standing.workers), 'worker')} measured {old:,} requests of users of the old version and {new:,} of users of the new one."


def _figure(check: Check, value: float | None) -> str:
    if value is None:
        return ""
    return f"{1000 * value:.1f} ms" if check.name == "CPU time" else f"{value:.1%}"
