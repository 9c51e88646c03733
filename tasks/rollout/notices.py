"""The message about a step of a rollout."""

from __future__ import annotations

from infra.registry import Promotion
from infra.version_names import short_version
from tasks.gate import Notice, fitting
from tasks.rollout.deciding import Standing

__all__ = ["rollout_notice"]

RETURNED, ADVANCED, COMPLETED, ASKED = (
    "recsys.rollout.returned",
    "recsys.rollout.advanced",
    "recsys.rollout.completed",
    "recsys.rollout.approval-needed",
)


def rollout_notice(standing: Standing, entry: Promotion | None, links: dict[str, str]) -> Notice:
    """Build the notice of a step.

    Args:
        standing: What was decided.
        entry: The entry of the log that it became. None if a person must approve the last stage.
        links: Shown below the text as `name: address`.
    """
    new, old, rollout = standing.entry.version, standing.rollout.old, standing.rollout
    if entry is None:
        event, said = ASKED, "needs approval for all users"
    elif entry.kind == "return":
        event, said = RETURNED, f"was returned from {rollout.share:.0%} of the users"
    elif entry.rolling_out is None:
        event, said = COMPLETED, "serves everybody"
    else:
        event, said = ADVANCED, f"serves {entry.rolling_out.share:.0%} of the users"
    unknown = [f"Not known: {'; '.join(standing.unknown)}."] if standing.unknown else []
    lines = [standing.why, *unknown, f"The version before it: {old}."]
    return Notice(
        event=event,
        model_name=standing.entry.name,
        version=new,
        subject=f"{standing.entry.name}: {short_version(new)} {said}",
        body=fitting(lines, links),
        figures={"move": standing.move, "stage": rollout.stage + 1, "old": old},
    )
