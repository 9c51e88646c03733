"""What a failed run shows: what went wrong in one paragraph, and what to do."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from configs.errors import RecsysError
from tasks.drawing import drawn

__all__ = ["advice", "show_failure"]


def show_failure(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of a flow's failure: an artifact `failure` of the run. A part of another run is left to that one."""
    if flow_run.parent_task_run_id is None:
        drawn("What the failure shows", _show, flow_run_logger(flow_run), flow_run, state)


def advice(error: BaseException | None, message: str) -> str:
    """Markdown: a mendable error by its own paragraph, which says what to do; anything else is a defect or the machine's trouble."""
    again = (
        "Retry on this page, or the same command, runs it again: what is stored is not done twice, and training goes on from its last "
        "epoch."
    )
    if isinstance(error, RecsysError):
        return f"## {type(error).__name__}\n\n{error}\n\n**Next:** mend that. {again}\n"
    kind = type(error).__name__ if error is not None else "No exception was kept"
    return (
        f"## {kind}\n\n{message}\n\n**Next:** the tab Logs has the traceback. {again} If it fails alike once more, it is a defect: report "
        "it with that log.\n"
    )


def _show(run: FlowRun, state: State[Any]) -> None:
    error = state.result(raise_on_failure=False)
    shown = advice(error if isinstance(error, BaseException) else None, state.message or "")
    with get_client(sync_client=True) as client:
        client.create_artifact(
            ArtifactCreate(
                key="failure", type="markdown", data=shown, flow_run_id=run.id, description="Why this run failed, and what to do"
            )
        )
