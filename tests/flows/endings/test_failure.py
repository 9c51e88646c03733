from __future__ import annotations

from html import unescape
from uuid import UUID

import pytest
from markdown_it import MarkdownIt
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.runtime import flow_run

from configs.errors import SourceError
from tasks.stages import publish_failure_artifact
from tasks.stages.failure import advice
from tests.planted import PLANTED, planted_elements

RUNS: list[str] = []


@flow(name="part", on_failure=[publish_failure_artifact])
def part(error: str) -> None:
    RUNS.append(str(flow_run.id))
    raise SourceError("ratings.csv has no column rating. Add it.") if error == "source" else ZeroDivisionError("division by zero")


@flow(name="whole", on_failure=[publish_failure_artifact])
def whole(error: str) -> None:
    RUNS.append(str(flow_run.id))
    part(error)


def artifacts_of(run: str) -> list[tuple[str, str]]:
    """Return the artifacts that have a key; the others hold results."""
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run)]))
        return [(found.key, str(found.data)) for found in client.read_artifacts(artifact_filter=wanted) if found.key]


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        ("source", SourceError, "ratings.csv has no column rating. Add it.\n\n**Next:** fix this."),
        ("other", ZeroDivisionError, "traceback"),
    ],
)
def test_a_run_that_failed_shows_once_why_and_what_to_do(error: str, kind: type[Exception], said: str) -> None:
    RUNS.clear()
    with pytest.raises(kind):
        whole(error)
    shown = [artifacts_of(run) for run in RUNS]
    (key, text), *more = shown[0]
    assert key == "failure" and said in text and f"## {kind.__name__}" in text and not more
    assert shown[1] == [], "the part of another run has an artifact of its own"


def test_a_failure_without_an_exception_is_described_by_its_message() -> None:
    assert "It was cancelled by hand." in advice(None, "It was cancelled by hand.")


@pytest.mark.parametrize("error", [SourceError("\n".join(PLANTED)), None])
def test_a_message_that_quotes_markup_is_shown_as_written(error: SourceError | None) -> None:
    drawn = MarkdownIt("commonmark").render(advice(error, "\n".join(PLANTED)))
    assert planted_elements(drawn) == [] and drawn.count("<p>") == len(PLANTED) + 1
    assert all(text in unescape(drawn).replace("\N{WORD JOINER}", "") for text in PLANTED)
