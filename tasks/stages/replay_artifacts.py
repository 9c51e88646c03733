"""Show a replay in the Prefect UI."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from tasks.best_effort import drawn
from tasks.replay import Replay, policy_rows, render_markdown
from tasks.stages.artifacts import address_artifact

__all__ = ["show_replay"]


def show_replay(found: Replay) -> None:
    """Show the replay from within a task. A failure is logged, and the run continues."""
    drawn("The replay's artifacts", _show, get_run_logger(), found)


def _show(found: Replay) -> None:
    create_markdown_artifact(render_markdown(found), key="replay", description=f"Retraining policies on {found.source}")
    create_table_artifact(policy_rows(found), key="replay-policies", description="What each policy was worth")
    address_artifact(found.page, "The replay page", key="replay-page", description="Quality over time, by policy")
