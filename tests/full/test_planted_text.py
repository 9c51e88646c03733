"""Titles, genres, reasons and names that contain markup, on every page of the store and of the demo, in a real browser."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import yaml
from playwright.sync_api import Page, expect

from configs.serving import ExposureSettings
from configs.settings import DriftSettings, MonitoringSettings
from infra.registry import ModelRegistry
from serving.experiments import ExposureLog, read_outcomes, render_html, report_experiment
from tasks.comparison import Failure
from tasks.comparison import render_html as comparison_page
from tasks.gate import publish
from tasks.gate.rules import decide
from tasks.ingest.validation import Validated
from tasks.monitoring import monitor_dataset
from tasks.monitoring.page import render_drift
from tasks.replay import replay_results
from tasks.replay.report import render_html as replay_page
from tests import synthetic
from tests.full.prefect_server.prefect_process import process, request, wait_until
from tests.full.serving.test_demo import running_demo, settled
from tests.planted import HOST, PLANTED, planted_elements
from tests.ports import reserved_port
from tests.serving.live import experiment, lived, outcomes_file
from tests.tasks import world as worlds
from tests.tasks.comparison.test_report import cell, entry
from tests.tasks.comparison.test_report import comparison as small_comparison  # noqa: F401  a fixture
from tests.tasks.gate.test_rules import SETTINGS, inputs, ranking
from tests.tasks.replayed import ended, small_plan, small_settings
from tests.tasks.world import NAME, World, make_world

pytestmark = pytest.mark.full
GENRES = [text.replace("|", "/") for text in PLANTED]
LOADED_MS = 2_000  # by then, a planted picture or script has run


def planted_movies(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the items of the events, each with a planted title and genre."""
    made = ORIGINAL(frame)
    titles = [f"{PLANTED[item % len(PLANTED)]} {item} (1975)" for item in made["item_id"]]
    return made.assign(title=titles, genres=[GENRES[item % len(GENRES)] for item in made["item_id"]])


def planted_users(*given: Any) -> Validated:
    """The tables of the events, with planted traits of each user."""
    made = VALIDATE(*given)
    texts = [PLANTED[user % len(PLANTED)] for user in made.users["user_id"]]
    return replace(made, users=made.users.assign(gender=texts, age=texts, occupation=texts))


ORIGINAL, VALIDATE = synthetic.movies, worlds.validate


@dataclass(frozen=True)
class Planted:
    """A store whose every text is planted, and the settings files of the demo."""

    world: World
    folder: Path
    workspace: Path
    pages: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    root = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "movies", planted_movies)
        patch.setattr(worlds, "validate", planted_users)
        world = make_world(root / "world")
    made = Planted(world, root, root / "workspace")
    decision = decide(inputs(ranking(0.37, 3), ranking(0.4)), SETTINGS)
    decision = replace(decision, reasons=list(PLANTED), dataset=PLANTED[1], protocol=PLANTED[5], champion=PLANTED[0])
    second = publish(world.store, world.stage(), decision, world.candidates[-1], world.evaluation, world.settings)
    ModelRegistry(world.store).promote(NAME, second.version, expected=1, reason=PLANTED[1], now=datetime.now(UTC))
    monitoring = MonitoringSettings(live_requests=50, drawn_rows=200, workspace=made.workspace)
    found = monitor_dataset(world.store, world.newer, "another", DriftSettings(min_rows=50), monitoring)
    assert found.evidently is not None
    said = replace(found.result, reasons=list(PLANTED), champion=PLANTED[0], model_name=NAME)
    key = f"drift/{world.newer.name}/{world.newer.version}/20990101T010000000000Z"
    world.store.put_new(f"{key}.json", json.dumps(said.to_dict()).encode())
    world.store.put_new(f"{key}.html", render_drift(said, None))
    rules = {"rules": [{"name": "planted", "action": "boost", "where": {"genres": [PLANTED[1], PLANTED[6]]}, "by": 0.3}]}
    (root / "rules.yaml").write_text(yaml.safe_dump(rules))
    tested = experiment(arms=[{"name": "control"}, {"name": "challenger", "version": PLANTED[6]}])
    exposures, outcomes = lived(tested)
    log = ExposureLog(ExposureSettings(folder=root / "log"))
    for each in exposures:
        log.write(each)
    log.close(60)
    outcomes_file(outcomes, root / "outcomes.csv")
    file = {"experiments": [tested.model_dump(mode="json")], "shadow": [{"version": PLANTED[1], "share": 0.1}]}
    (root / "experiments.yaml").write_text(yaml.safe_dump(file))
    for name in world.store.list():
        if name.endswith(".html"):
            made.pages[name] = world.store.get(name)
    return made


@dataclass
class Watched:
    """A page of the browser, and what happened on it."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def check(self, *, frames: bool = False) -> None:
        """Check that nothing planted ran, was requested, or became an element."""
        self.page.wait_for_timeout(LOADED_MS)
        assert self.faults == []
        for frame in self.page.frames:
            assert frame.evaluate("window.__planted ?? null") is None, frame.url
            assert [each for each in planted_elements(frame.content()) if not (frames and each.startswith("iframe"))] == []


@pytest.fixture
def watched(page: Page) -> Iterator[Watched]:
    browser = page.context.browser
    assert browser is not None
    made = Watched(browser.new_page(viewport={"width": 1440, "height": 1000}))
    made.page.set_default_timeout(60_000)
    made.page.on("dialog", lambda dialog: (made.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
    made.page.on("request", lambda request: made.faults.append(request.url) if HOST in request.url else None)
    yield made
    made.page.close()


def shown(page: Page) -> str:
    """Return the text of the page, without the invisible character that breaks addresses."""
    return " ".join(page.locator("body").inner_text().replace("\N{WORD JOINER}", "").split())


def test_no_page_of_the_store_runs_or_loads_what_was_planted(planted: Planted, watched: Watched, tmp_path: Path) -> None:
    kinds = {
        name.rsplit("/", 1)[1].split(".", 1)[1] if name.startswith("drift/") else name.rsplit("/", 1)[1] for name in planted.pages
    }
    assert kinds == {"recsys_report.html", "report.html", "html", "evidently.html"}
    for number, (name, content) in enumerate(planted.pages.items()):
        file = tmp_path / f"{number}.html"
        file.write_bytes(content)
        assert planted_elements(content.decode()) == [], name
        watched.page.goto(file.as_uri())
        watched.check()
        if name.endswith("/report.html") or "2099" in name:
            assert all(text in shown(watched.page) for text in PLANTED), name
        elif name.endswith("recsys_report.html"):
            expect(watched.page.get_by_text("Recommendation Cases").first).to_be_visible()
            assert any(f"{text} " in shown(watched.page) for text in PLANTED)
        elif name.endswith(".evidently.html"):
            expect(watched.page.get_by_text("genre").first).to_be_visible()


def test_no_report_runs_what_was_planted(
    planted: Planted,
    watched: Watched,
    tmp_path: Path,
    small_comparison,  # type: ignore[no-untyped-def]  # noqa: F811
) -> None:
    compared = replace(
        small_comparison,
        dataset=PLANTED[0],
        protocol=PLANTED[1],
        failures=[Failure("ncf", 2, " ".join(PLANTED))],
        entries=[entry(text, 0.2, [1], preset=text, settings={text: text}) for text in PLANTED[:3]],
        reference=PLANTED[0],
        matrix=[cell(one, other, 0.1, False) for one in PLANTED[:3] for other in PLANTED[:3] if one != other],
    )
    tested = experiment()
    exposures, outcomes = lived(tested)
    report = report_experiment(tested, exposures, read_outcomes(outcomes_file(outcomes, tmp_path / "outcomes.csv")))
    said = replace(report, verdict=" ".join(PLANTED), outcome=PLANTED[0], as_of_is=PLANTED[5])
    plan = small_plan(tmp_path)
    ended(plan)
    kept = replay_results(plan, small_settings(tmp_path))
    why = [replace(each, why=PLANTED[3], reasons=list(PLANTED)) for each in kept.policies[1].trainings]
    policies = [replace(policy, name=text, rule=text) for policy, text in zip(kept.policies, PLANTED, strict=False)]
    policies[1] = replace(policies[1], trainings=why, drifts={3: list(PLANTED)})
    replayed = replace(
        kept,
        id=PLANTED[0],
        source=" ".join(PLANTED),
        trained=PLANTED[1],
        length=PLANTED[6],
        policies=policies,
        scenario=PLANTED[7],
        scenario_slice=3,
    )
    pages = {"comparison": comparison_page(compared), "experiment": render_html(said), "replay": replay_page(replayed)}
    for name, content in pages.items():
        file = tmp_path / f"{name}.html"
        file.write_bytes(content)
        watched.page.goto(file.as_uri())
        watched.check()
        assert all(text in shown(watched.page) for text in PLANTED), name


@pytest.fixture(scope="module")
def address(planted: Planted) -> Iterator[str]:
    store = ["--set", f"store.url=file:{planted.world.store.folder}", "--set", f"model_name={NAME}"]
    named = {"rules": "rules.yaml", "experiments": "experiments.yaml", "exposures": "log", "outcomes": "outcomes.csv"}
    with running_demo(planted.folder, store, {name: planted.folder / file for name, file in named.items()}) as found:
        yield found


def test_no_page_of_the_demo_runs_or_loads_what_was_planted(planted: Planted, watched: Watched, address: str) -> None:
    page = watched.page
    for path in ("", "latest", "compare", "live", "pipeline", "drift", "experiments"):
        page.goto(f"{address}/{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        settled(page)
        watched.check()
        if path in ("", "compare", "live"):
            expect(page.locator(".item .title").first).to_be_visible()
            titles = page.locator(".item .title").all_inner_texts()
            assert titles and all(any(" ".join(title.split()).startswith(text) for text in PLANTED) for title in titles)
        if path in ("pipeline", "drift"):
            assert all(text in shown(page) for text in PLANTED if "--" not in text), path
            page.get_by_text("Show the decision page" if path == "pipeline" else "Show the report").click()
            expect(page.frame_locator("iframe").get_by_role("heading", level=1)).to_be_visible()
            watched.check(frames=True)
    page.goto(f"{address}/")
    page.get_by_role("radio", name="Build a history").or_(page.get_by_role("button", name="Build a history")).first.click()
    settled(page)
    added = page.get_by_role("button").filter(has_text="(1975)")
    expect(added.first).to_be_visible()
    for text in added.all_inner_texts():
        text = text.replace("\N{WORD JOINER}", "")
        assert any(" ".join(text.split()).startswith(f"+ {each}") for each in PLANTED), text
    added.first.click()
    expect(page.get_by_role("button").filter(has_text="✕").first).to_be_visible()
    watched.check()


def test_evidentlys_own_ui_runs_and_loads_nothing_that_was_planted(planted: Planted, watched: Watched) -> None:
    evidently = str(Path(sys.executable).with_name("evidently"))
    port, folder = reserved_port(), planted.folder
    address = f"http://127.0.0.1:{port}"
    command = [evidently, "ui", "--workspace", str(planted.workspace), "--port", str(port)]
    environment = {**os.environ, "DO_NOT_TRACK": "1", "NO_PROXY": "127.0.0.1,localhost"}
    with process(command, environment, folder / "ui.log", folder) as running:

        def projects() -> Any:
            try:
                return httpx.get(f"{address}/api/projects", timeout=60).raise_for_status().json()
            except httpx.HTTPError:
                assert running.poll() is None, (folder / "ui.log").read_text()
                return None

        (project,) = wait_until(projects, 600)
        (snapshot,) = request("GET", f"{address}/api/projects/{project['id']}/snapshots").raise_for_status().json()
        kept = request("GET", f"{address}/api/projects/{project['id']}/{snapshot['id']}/data").raise_for_status().text
        assert "planted" in kept, "the genres are in the snapshot"
        for path in ("", f"projects/{project['id']}", f"projects/{project['id']}/reports/{snapshot['id']}"):
            watched.page.goto(f"{address}/{path}")
            expect(watched.page.get_by_text("another" if not path.endswith(snapshot["id"]) else "genre").first).to_be_visible()
            watched.check()
        for column in watched.page.get_by_role("button", name="Detail panel visibility toggle").all():
            column.click()
        expect(watched.page.locator(".js-plotly-plot").first).to_be_visible()
        watched.check()
        assert "planted" in watched.page.locator("body").inner_text(), "a figure names the genres"
