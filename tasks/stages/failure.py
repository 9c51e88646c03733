"""Show why a run failed, in one paragraph, and what to do."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from configs.errors import RecsysError
from infra.pages import escaped
from tasks.best_effort import attempt
from tasks.stages.artifacts import SUMMARY, UNDER_WAY

__all__ = ["advice", "publish_failure_artifact"]


def publish_failure_artifact(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Create the artifact `failure` when a flow run fails. Subflows are skipped: their parent run shows the failure."""
    if flow_run.parent_task_run_id is None:
        attempt("The failure artifact", _publish, flow_run_logger(flow_run), flow_run, state)


def advice(error: BaseException | None, message: str) -> str:
    """Return the artifact's Markdown.

    A product error is shown with its own message, which includes the remedy. Any other error is a defect or a machine problem.
    """
    again = (
        "To run it again, click Retry on this page or repeat the command. Stored results are reused, and training resumes "
        "from its last epoch."
    )
    if isinstance(error, RecsysError):
        return f"## {type(error).__name__}\n\n{_paragraphs(str(error))}\n\n**Next:** fix this. {again}\n"
    kind = type(error).__name__ if error is not None else "No exception was recorded"
    return (
        f"## {kind}\n\n{_paragraphs(message)}\n\n**Next:** the Logs tab has the traceback. {again} If it fails in the same way again, it is a "
        "defect: report it with that log.\n"
    )


def _paragraphs(text: str) -> str:
    """Return the lines of a message, which may quote what it was given, as paragraphs of plain text."""
    return "\n\n".join(escaped(line) for line in text.splitlines() if line.strip())


def _publish(run: FlowRun, state: State[Any]) -> None:
    error = state.result(raise_on_failure=False)
    shown = advice(error if isinstance(error, BaseException) else None, state.message or "")
    said = "Why this run failed, and what to do"
    with get_client(sync_client=True) as client:
        client.create_artifact(ArtifactCreate(key="failure", type="markdown", data=shown, flow_run_id=run.id, description=said))
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=[SUMMARY]))
        for begun in client.read_artifacts(artifact_filter=wanted):
            if begun.description == UNDER_WAY:
                client.update_artifact(begun.id, ArtifactUpdate(data=shown, description=said))
