"""Notifications about a decision: one message with its figures and links, short enough for any chat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from infra.registry import Promotion
from tasks.gate.decision import Decision
from tasks.gate.page import next_step, summary

__all__ = ["Notice", "champion_notice", "decision_notice", "fitting"]

LONGEST = 1500  # characters of a body; Discord accepts 2000, including the title and the link that the server adds
MOST_REASONS = 6
EVENTS = {
    "promoted": "recsys.gate.promoted",
    "held": "recsys.gate.held",
    "needs approval": "recsys.gate.approval-needed",
    "not judged": "recsys.gate.not-judged",
}


@dataclass(frozen=True)
class Notice:
    """One message, and the event that carries it."""

    event: str
    model_name: str
    version: str
    subject: str
    body: str  # at most 1500 characters
    figures: dict[str, Any] = field(default_factory=dict)  # JSON-serialisable, for programs

    def payload(self) -> dict[str, Any]:
        """Return the payload of the event."""
        return {"subject": self.subject, "body": self.body, "version": self.version, "figures": self.figures}


def decision_notice(decision: Decision, links: dict[str, str]) -> Notice:
    """Build the notice of the gate's verdict on a challenger. `links` are shown below the text as `name: address`."""
    metrics = [
        f"{model}: HR@10 {found['hr@10']:.4f}, NDCG@10 {found['ndcg@10']:.4f}"
        for model in _in_order(decision.metrics)
        if (found := decision.metrics.get(model))
    ]
    reasons = [f"- {reason}" for reason in decision.reasons[:MOST_REASONS]]
    if len(decision.reasons) > MOST_REASONS:
        reasons.append(f"- and {len(decision.reasons) - MOST_REASONS} more")
    by = f"Approved by {decision.approval.who}." if decision.approval and decision.approval.approved else None
    asked = "It passed every rule, and a person has the last word." if decision.outcome == "needs approval" else None
    figures = [*metrics, f"{decision.requests:,} requests of {decision.dataset}"]
    warnings = [f"Warning: {warning}" for warning in decision.warnings]
    lines = [asked, by, *reasons, *warnings, summary(decision), f"Next: {next_step(decision)}", *figures]
    return Notice(
        event=EVENTS[decision.outcome],
        model_name=decision.model_name,
        version=decision.challenger,
        subject=f"{decision.model_name} {decision.challenger}: {decision.outcome}",
        body=fitting([line for line in lines if line], links),
        figures={"metrics": decision.metrics, "champion": decision.champion, "reasons": decision.reasons},
    )


def _in_order(models: Iterable[str]) -> list[str]:
    """Return the challenger and the champion first, and the simplest baseline last."""
    return ["challenger", "champion", *(model for model in reversed([*models]) if model not in ("challenger", "champion"))]


def champion_notice(entry: Promotion, links: dict[str, str]) -> Notice:
    """Build the notice of a version that a person made champion, by rollback or by force."""
    verb = "rolled back to" if entry.kind == "rollback" else "promoted by force"
    warnings = [f"Warning: {warning}" for warning in entry.warnings]
    previous = f"Previous champion: {entry.previous or 'none'}. Promotion {entry.number}."
    lines = [f"By {entry.who}: {entry.reason}", *warnings, previous]
    return Notice(
        event="recsys.champion.rolled-back" if entry.kind == "rollback" else "recsys.champion.forced",
        model_name=entry.name,
        version=entry.version,
        subject=f"{entry.name}: {verb} {entry.version}",
        body=fitting(lines, links),
        figures={"number": entry.number, "previous": entry.previous},
    )


def fitting(lines: list[str], links: dict[str, str]) -> str:
    """Join text and links. If both together are too long, the text is cut, because a truncated link leads nowhere."""
    foot = "\n".join(f"{name}: {address}" for name, address in links.items())[:LONGEST]
    text = "\n".join(lines)
    room = LONGEST - len(foot) - 1
    if len(text) > room:
        text = text[: max(room - 4, 0)].rstrip() + " ..."
    return f"{text}\n{foot}".strip() if foot else text
