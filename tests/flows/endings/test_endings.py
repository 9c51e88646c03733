"""How a run ends, as the list of runs and the page of the run show it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.runtime import flow_run

from configs.errors import SourceError
from configs.settings import RetrainSettings, StoreSettings
from tasks.stages import page_lines, publish_failure_artifact
from tasks.stages.artifacts import happened, live_progress, text_table
from tasks.stages.endings import begin_summary, dated, ended, fails_with_a_sentence, summarise
from tests.doubles.live_prefect import wait_until

LONG = "20261129T121055Z-5dd250d8f15f8fc94abc9f194a1e8d1b"
IDS: list[UUID] = []


@task(name="promote")
def promotes() -> None:
    with live_progress("bar", "at work") as shown:
        shown(50.0, "half")
    happened(f"promotion: held {LONG}")


@flow(name="ends-well", flow_run_name=dated("{settings.model_name}"))
@fails_with_a_sentence
def ends_well(settings: RetrainSettings = RetrainSettings()) -> list[int]:  # noqa: B008
    IDS.append(UUID(str(flow_run.id)))
    begin_summary("at work")
    promotes()
    summarise("second", f"about {LONG}")
    return ended("Held", f"{LONG} is\nnot better.", [1, 2], f"ranker {LONG}")


@flow(name="fails", on_failure=[publish_failure_artifact])
@fails_with_a_sentence
def fails(error: str) -> None:
    IDS.append(UUID(str(flow_run.id)))
    begin_summary("at work")
    raise {"product": SourceError("ratings.csv has no column rating. Add it.\n\nmore"), "defect": ZeroDivisionError("division")}[
        error
    ]


def run_of(id_: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(id_)


def test_a_run_that_ends_has_a_state_with_a_name_a_message_and_one_summary() -> None:
    IDS.clear()
    assert ends_well() == [1, 2], "the caller gets the result"
    run = run_of(IDS[0])
    assert run.state is not None and run.state.is_completed() and run.state_type is StateType.COMPLETED
    assert (run.state_name, run.state.message) == ("Held", "20261129T121055Z is not better.")
    assert run.name == "ranker 20261129T121055Z"
    with get_client(sync_client=True) as client:
        made = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=IDS)))

        def tasks() -> list[str]:
            wanted = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=IDS))
            return [each.name for each in client.read_task_runs(task_run_filter=wanted)]

        wait_until(lambda: tasks() == ["promotion: held 20261129T121055Z"], 600, "the name of the task run")
    (summary,) = [each for each in made if each.key]
    assert (summary.key, summary.data, summary.task_run_id) == ("summary", "second", None), "it belongs to the run itself"
    assert summary.description == "about 20261129T121055Z"


def test_a_run_is_named_by_its_parameters_and_the_time_until_its_result_is_known() -> None:
    names: list[str] = []

    @flow(flow_run_name=dated("{version}"))
    def starts(version: str) -> None:
        names.append(str(flow_run.name))

    starts(LONG)
    assert names[0].startswith("20261129T121055Z, ") and names[0][-3] == ":"


def test_a_run_that_fails_says_in_one_paragraph_why_and_its_caller_gets_the_error() -> None:
    IDS.clear()
    with pytest.raises(SourceError, match=r"Add it\.\n\nmore"):
        fails("product")
    with pytest.raises(ZeroDivisionError):
        fails("defect")
    product, defect = (run_of(id_).state for id_ in IDS)
    assert product is not None and (product.name, product.message) == ("Failed", "ratings.csv has no column rating. Add it.")
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=IDS[:1]), key=ArtifactFilterKey(any_=["summary"]))
        (summary,) = client.read_artifacts(artifact_filter=wanted)
    assert "no column rating" in str(summary.data), "it does not say for ever that the run is under way"
    assert defect is not None and defect.is_failed() and "ZeroDivisionError" in str(defect.message)


def test_a_run_keeps_its_result_and_its_error_if_the_answer_to_its_last_transition_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send, lost = httpx.Client.send, list[str]()

    def loses_one(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = send(client, request, **options)
        final = request.url.path.endswith("/set_state") and json.loads(request.content)["state"]["type"] in (
            "COMPLETED",
            "FAILED",
        )
        if final and request.url.path not in lost:
            lost.append(request.url.path)
            raise httpx.ReadTimeout("The answer is lost.", request=request)
        return answer

    monkeypatch.setattr(httpx.Client, "send", loses_one)
    IDS.clear()
    assert ends_well() == [1, 2]
    with pytest.raises(SourceError, match="Add it"):
        fails("product")

    @flow(name="outer")
    @fails_with_a_sentence
    def outer() -> list[int]:
        return ended("Done", "It is done.", ends_well())

    assert outer() == [1, 2]
    assert len(lost) == 4 and [run_of(id_).state_name for id_ in IDS] == ["Held", "Failed", "Held"]


def test_a_flow_called_outside_of_prefect_gives_its_result_and_raises_its_error() -> None:
    with pytest.raises(SourceError):
        fails_with_a_sentence(_raises)()
    assert ended("Held", "why", 7) == 7


def _raises() -> None:
    raise SourceError("no")


def test_a_page_is_a_link_if_it_is_served_and_a_command_otherwise() -> None:
    page = f"file:///s/models/m/{LONG}/report.html"
    served = StoreSettings(url="file:/s", pages_url="http://127.0.0.1:8000/pages")
    assert page_lines({"The decision": page, "Drift": None}, served) == (
        f"- [The decision](http://127.0.0.1:8000/pages/models/m/{LONG}/report.html)"
    )
    assert page_lines({"The decision": page}, StoreSettings(url="file:/s")) == f"- The decision: `recsys data open {page}`"


def test_wide_tables_are_folded_to_the_width_of_a_page() -> None:
    rows = [{"check": "a few words", **{f"column {n}": "some words that are too many for a cell" for n in range(5)}}]
    longest = [
        max(len(part) for part in cell.split("<br>")) for cell in text_table(rows).splitlines()[2].strip("| ").split(" | ")
    ]
    assert sum(longest) + 4 * 6 <= 94 and text_table([]) == ""
