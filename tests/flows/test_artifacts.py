from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from uuid import UUID

import pytest
from markdown_it import MarkdownIt
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact
from prefect.runtime import flow_run

from configs.settings import DEFAULT_NOUNS, RetrainSettings, StoreSettings
from tasks.comparison import Failure
from tasks.comparison import render_markdown as comparison_markdown
from tasks.datasets import DatasetRef, FileAccount
from tasks.gate.rules import decide
from tasks.ingest import ValidationReport
from tasks.ingest.validation import TableReport
from tasks.landing import Landing
from tasks.monitoring import DriftResult, Monitored
from tasks.monitoring.checks import Check
from tasks.outcome import summary_markdown
from tasks.replay import render_markdown as replay_markdown
from tasks.replay import replay_results
from tasks.search import SearchRecord, TrialRecord
from tasks.stages import data_artifacts as artifacts
from tasks.stages import model_artifacts, page_lines, study_artifacts
from tasks.stages.artifacts import publish_markdown
from tasks.stages.endings import summarise
from tests.flows.cli.test_main import recsys
from tests.planted import PLANTED, planted_elements
from tests.tasks.comparison.test_report import cell, entry
from tests.tasks.comparison.test_report import comparison as small_comparison  # noqa: F401  a fixture
from tests.tasks.gate.test_rules import SETTINGS, inputs, ranking
from tests.tasks.outcome.made import retraining
from tests.tasks.replayed import ended, small_plan, small_settings

UNDATED = DatasetRef("small", "abc", "datasets/small/abc", "file:x", 1, 1, 1, 10**15, 10**15)  # beyond the year 9999


def test_an_artifact_that_cannot_be_drawn_is_logged_and_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    @task
    def stage() -> str:
        artifacts.publish_data_artifact(UNDATED)
        return "done"

    @flow
    def run() -> str:
        return stage()

    assert run() == "done"
    told = [
        record for record in caplog.records if "The artifact of publish_data_artifact could not be drawn" in record.getMessage()
    ]
    assert [record.name for record in told] == ["prefect.task_runs"] and told[0].exc_info


ALL = " ".join(PLANTED)
ADDRESS = "file:/store/`<img src=x onerror=alert(6)>` [link](javascript:alert(7))"


def read_artifacts(run: str) -> list[Artifact]:
    """The artifacts of a flow run, as the server holds them."""
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run)])))


def texts(artifact: Artifact) -> list[str]:
    """What the Prefect UI reads as Markdown: the description, the text, and the heads and cells of a table."""
    found = [str(artifact.description)]
    if artifact.type == "markdown":
        found.append(str(artifact.data))
    elif artifact.type == "table":
        rows = json.loads(str(artifact.data)) if isinstance(artifact.data, str) else artifact.data
        found += [text for row in rows for pair in row.items() for text in pair if isinstance(text, str)]
    return found


OWN_PICTURE = re.compile(r'<img src="data:image/png;base64,[A-Za-z0-9+/=]+" alt="[^"<>]*" />')


def check_texts(found: list[Artifact]) -> None:
    """Nothing of them becomes an element that runs, loads or leads anywhere."""
    for artifact in found:
        for text in texts(artifact):
            drawn = OWN_PICTURE.sub("", MarkdownIt("gfm-like", {"linkify": False}).render(text))
            assert planted_elements(drawn) == [] and "<a" not in drawn and "<img" not in drawn, (artifact.key, text)
            plain = re.sub(r"<code>.*?</code>", "", drawn, flags=re.DOTALL)
            assert "http://" not in plain, f"{artifact.key}: some readers make links of bare addresses"


def published(publish: Callable[[], None]) -> dict[str, Artifact]:
    """The artifacts that a task publishes, by their keys."""

    @task
    def stage() -> None:
        publish()

    @flow
    def run() -> str:
        stage()
        return str(flow_run.id)

    found = {str(each.key): each for each in read_artifacts(run())}
    check_texts(list(found.values()))
    return found


def planted_drift() -> DriftResult:
    checks = [Check(text, "distance", verdict="not judged", detail=text) for text in PLANTED]
    return DriftResult(
        verdict="drifted", reasons=list(PLANTED), rows=1, users=1, first=0, last=1, reference_rows=1, reference_users=1,
        unseen_user_share=0.5, alpha=0.01, checks=checks, model_name=PLANTED[1], dataset=PLANTED[0],
    )  # fmt: skip


def test_no_artifact_of_data_reads_what_was_planted_as_markup() -> None:
    dataset = replace(UNDATED, name=PLANTED[1], version=PLANTED[6], uri=ADDRESS, first=0, last=0, parents=PLANTED)
    accounts = [FileAccount(f"{text}.csv", "ab", "events", 0, 1, "accepted", 2, 0, 0, 2, {text: 2}, why=text) for text in PLANTED]
    landing = Landing(dataset, 1, tuple(accounts), {f"{text}.csv": text for text in PLANTED}, 0, 0)
    drift = planted_drift()

    def publish() -> None:
        report = ValidationReport({ALL: TableReport(2, 0, 2, dict.fromkeys(PLANTED, 1))}, 0)
        artifacts.publish_data_artifact(dataset, report, landing)
        artifacts.publish_drift_artifact(Monitored(drift, ADDRESS, ADDRESS, ADDRESS), DEFAULT_NOUNS, StoreSettings())

    found = published(publish)
    assert found.keys() == {"data", "drift"}
    drawn = MarkdownIt("gfm-like", {"linkify": False}).render(str(found["data"].data))
    names = "".join(unescape(re.sub(r"<[^>]+>", "", drawn)).replace("\N{WORD JOINER}", "").split())
    assert all("".join(f"{text}.csv".split()) in names for text in PLANTED)


def test_no_artifact_of_a_model_reads_what_was_planted_as_markup() -> None:
    decision = replace(
        decide(inputs(ranking(0.37, 3), ranking(0.4)), SETTINGS),
        reasons=list(PLANTED), warnings=list(PLANTED), dataset=PLANTED[1], protocol=PLANTED[5], champion=ALL,
    )  # fmt: skip
    made = retraining(decision)
    made = replace(made, version=replace(made.version, name=PLANTED[2], version=ALL), drift=planted_drift())

    def publish() -> None:
        model_artifacts.publish_decision_artifact(decision)
        summarise(summary_markdown(made, page_lines({ALL: ADDRESS}, StoreSettings())), ALL)

    found = published(publish)
    assert found.keys() == {"gate", "summary"}
    shown = unescape(MarkdownIt("commonmark").render(str(found["summary"].data)))
    assert "recsys data open 'file:/store/`<img src=x onerror=alert(6)>` [link](javascript:alert(7))'" in shown, "to be copied"


def test_no_artifact_of_a_study_reads_what_was_planted_as_markup(
    tmp_path: Path,
    small_comparison,  # type: ignore[no-untyped-def]  # noqa: F811
) -> None:
    compared = replace(
        small_comparison,
        id=ALL, dataset=ALL, protocol=ALL, page=ADDRESS, failures=[Failure("ncf", 2, ALL)], reference=PLANTED[0],
        entries=[entry(text, 0.2, [1], preset=text, settings={text: text}) for text in PLANTED],
        matrix=[cell(one, other, 0.1, False) for one in PLANTED for other in PLANTED if one != other],
    )  # fmt: skip
    plan = small_plan(tmp_path)
    ended(plan)
    kept = replay_results(plan, small_settings(tmp_path))
    policies = [replace(policy, name=text, rule=text) for policy, text in zip(kept.policies, PLANTED, strict=False)]
    replayed = replace(kept, id=ALL, source=ALL, scenario=ALL, scenario_slice=3, policies=policies, page=ADDRESS)
    trial = TrialRecord(0, "complete", 0.1, 1, 1, 2.0, {text: text for text in PLANTED}, ALL)
    searched = SearchRecord(ALL, ALL, "k", ALL, ALL, "m", 1, {}, {}, [trial], None, dict.fromkeys(PLANTED, 0.1))

    def publish() -> None:
        study_artifacts.publish_search_artifact(searched)
        links = page_lines({ALL: ADDRESS}, StoreSettings())
        publish_markdown(comparison_markdown(compared, links), key="comparison", description=ALL)
        publish_markdown(replay_markdown(replayed, links), key="replay", description=ALL)

    assert published(publish).keys() == {"comparison", "replay", "trials"}


FILES = ["<img src=x onerror=alert(1)>.csv", "![a](http:b) [c](javascript:d).csv", "[red]e[bold]f.csv", "\x1b[31mg\x1b[2Jh\u202e.csv", "| i `j` *k*.csv"]  # fmt: skip


def test_the_names_of_landed_files_are_shown_as_data(
    make_settings: Callable[..., RetrainSettings], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    zone, store = tmp_path / "zone", f"file:{tmp_path}/s"
    zone.mkdir()
    for number, name in enumerate(FILES):
        good = "".join(f"{user},{number},4,946684800\n" for user in range(1, 40))
        (zone / name).write_text(f"userId,movieId,rating,timestamp\n{good}1,{90 + number},77,946684800\n")
    (zone / f"bad {FILES[3]}").write_text("no events\n")
    given = ["--set", f"store.url={store}", "--set", "data.dataset=films", "--set", f"etl.work_dir={tmp_path}/w"]
    lax = ["--set", "landing.settle_s=0", "--set", "landing.give_up_s=0", "--set", "validation.min_rows=1"]
    assert recsys("etl", "--landing", str(zone), *given, *lax) == 0
    landed = capfd.readouterr()
    assert recsys("data", "files", *given) == 0
    assert recsys("data", "list", *given) == 0
    listed = capfd.readouterr()
    assert recsys("data", "remove", "--file", FILES[3], "--reason", "\x1b[31mred", *given) == 0
    removed = capfd.readouterr()
    for said in (landed, listed, removed):
        assert "\x1b[" not in said.out + said.err and "\u202e" not in said.out + said.err
    lines = [line.split("│") for line in listed.out.splitlines() if line.startswith("│")]
    columns = ["".join(cells[place] for cells in lines if len(cells) > place) for place in range(4)]
    shown = ["".join(column.split()) for column in columns]  # a long name is folded
    for name in FILES:
        plain = "".join(name.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e").split())
        assert any(plain in column for column in shown), name
