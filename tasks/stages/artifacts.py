"""What all artifacts of the Prefect UI share: one for each topic of a run, progress that ends, links, and no failed run because of one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, cast
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from configs.settings import StoreSettings
from infra.pages import code_span, escaped, folded, markdown_table, page_link, visible
from infra.version_names import shortened
from tasks.best_effort import attempt

__all__ = [
    "SUMMARY",
    "UNDER_WAY",
    "best_effort_artifact",
    "happened",
    "live_progress",
    "page_lines",
    "publish_markdown",
    "text_table",
]

P = ParamSpec("P")
SUMMARY = "summary"
"""Key of the artifact that a run itself has: what came of it."""
UNDER_WAY = "Under way"  # its description until then
WIDTH, EDGES = 94, 4  # characters of a row that fit the width of a page; of these, each column has some at its edges


def best_effort_artifact(publish: Callable[P, None]) -> Callable[P, None]:
    """Make `publish` best-effort within a run: if it raises, the run logs a warning and continues."""

    @wraps(publish)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        attempt(f"The artifact of {publish.__name__}", publish, get_run_logger(), *args, **kwargs)

    return guarded


def publish_markdown(text: str, *, key: str, description: str) -> UUID:
    """Show Markdown as the artifact `key` of this run, and return its id. A later text replaces the earlier one.

    Must be called within a flow run. Called within a task, the artifact belongs to the task; otherwise, to the run itself.
    """
    said = escaped(shortened(description))
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(str(flow_run.id))]), key=ArtifactFilterKey(any_=[key])
        )
        if found := client.read_artifacts(artifact_filter=wanted, limit=1):
            client.update_artifact(found[0].id, ArtifactUpdate(data=text, description=said))
            return found[0].id
    return cast(UUID, create_markdown_artifact(text, key=key, description=said))


@contextmanager
def live_progress(key: str, description: str) -> Iterator[Callable[[float, str], None]]:
    """Show a progress bar until the work ends. Afterwards it says nothing that the results do not say, so it is deleted.

    Yields what updates it: it takes the percentage, and a description. It must be called within a run.
    """
    log, what = get_run_logger(), f"The progress {key}"
    bar = attempt(what, lambda: cast(UUID, create_progress_artifact(0.0, key=key, description=description)), log)

    def update(percent: float, said: str) -> None:
        if bar is not None:
            attempt(what, lambda: update_progress_artifact(bar, min(max(percent, 0.0), 100.0), description=said), log)

    try:
        yield update
    finally:
        if bar is not None:
            attempt(what, _delete, log, bar)


def page_lines(pages: Mapping[str, str | None], store: StoreSettings) -> str:
    """Return one line for each stored page: a link if `store.pages_url` says where it is served, else the command that opens it.

    Store addresses are not links: a browser does not follow s3:// addresses, nor file:// addresses from a page of the server.
    """
    lines = []
    for name, address in pages.items():
        if address is None:
            continue
        link = page_link(address, store)
        opened = (
            f"[{escaped(name)}]({link})" if link else f"{escaped(name)}: {code_span(f'recsys data open {shlex.quote(address)}')}"
        )
        lines.append(f"- {opened}")
    return "\n".join(lines)


def text_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return records with the same keys as a table with every text as data, folded so that it fits the width of a page."""
    records = [{name: shortened(str(cell)) for name, cell in row.items()} for row in rows]
    if not records:
        return ""
    names = list(dict.fromkeys(name for record in records for name in record))
    longest = {name: max(map(len, [name, *(record.get(name, "") for record in records)])) for name in names}
    # Columns share the width that short columns leave.
    room = WIDTH - EDGES * len(names)
    width = max(
        width for width in range(10, WIDTH) if width == 10 or sum(min(length, width) for length in longest.values()) <= room
    )
    return markdown_table(
        [folded(name, width) for name in names], [[folded(record.get(name, ""), width) for name in names] for record in records]
    )


def happened(name: str) -> None:
    """Name the task run by what happened, such as "promotion: held". Must be called within a task."""
    context = TaskRunContext.get()
    if context is not None:
        context.task_run.name = visible(shortened(name))


def _delete(artifact: UUID) -> None:
    with get_client(sync_client=True) as client:
        client.delete_artifact(artifact)
