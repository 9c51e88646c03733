"""What a replay shows in the Prefect UI."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from tasks.artifacts import address_artifact
from tasks.drawing import drawn
from tasks.replay_page import policy_rows, render_markdown
from tasks.replay_results import Replay

__all__ = ["show_replay"]


def show_replay(found: Replay) -> None:
    """Within a task; where it raises, the run's log says so and the run goes on."""
    drawn("What show_replay shows", _show, get_run_logger(), found)


def _show(found: Replay) -> None:
    create_markdown_artifact(render_markdown(found), key="replay", description=f"Policies of retraining on {found.source}")
    create_table_artifact(policy_rows(found), key="replay-policies", description="What each policy was worth")
    address_artifact(found.page, "The page of the replay", key="replay-page", description="Quality over time, policy by policy")
