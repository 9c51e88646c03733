"""Everybody can read the reports: with a small screen, with a keyboard, and with eyes that need contrast."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import uvicorn
from playwright.sync_api import Page

from configs.settings import DueSettings, MonitoringSettings
from infra.storage.local import LocalStore
from serving.api.app import create_app
from serving.experiments import read_outcomes, render_estimate, render_html, report_experiment
from tasks.comparison import Failure
from tasks.comparison import render_html as comparison_page
from tasks.gate.page import render_html as decision_page
from tasks.gate.rules import decide
from tasks.monitoring.drift import Beside, detect_drift
from tasks.monitoring.evidently_page import draw_columns
from tasks.monitoring.page import render_drift
from tasks.replay import replay_results
from tasks.replay.report import render_html as replay_page
from tasks.retraining import Facts
from tasks.retraining import decide as decide_due
from tasks.retraining.answer import Position
from tasks.retraining.record import render_answer
from tasks.rollout.page import render_html as rollout_page
from tests import synthetic
from tests.full.conftest import PATIENCE_MS
from tests.full.pages.accessibility import VIEWS, faults_in_all_views, faults_of
from tests.serving.demo.conftest import measured
from tests.serving.experiments.test_off_policy import estimated
from tests.serving.live import experiment, lived, outcomes_file
from tests.serving.versions import draw, promote_version, publish, settings_of
from tests.tasks.comparison.test_report import cell, entry
from tests.tasks.comparison.test_report import comparison as small_comparison  # noqa: F401  a fixture
from tests.tasks.evaluation.test_evidently_page import noisy
from tests.tasks.evaluation.test_evidently_page import page as recommendations
from tests.tasks.gate.test_rules import SETTINGS, inputs, ranking
from tests.tasks.monitoring.test_own_data import SETTINGS as DRIFT
from tests.tasks.monitoring.test_own_data import WORDS, Data, news
from tests.tasks.replayed import ended, small_plan, small_settings
from tests.tasks.retraining.test_facts import TODAY
from tests.tasks.rollout.test_watching import Rolling, errors
from tests.tasks.stored import NAME, small_split

pytestmark = pytest.mark.full


@pytest.fixture
def reports(tmp_path: Path, small_comparison) -> dict[str, bytes]:  # type: ignore[no-untyped-def]  # noqa: F811
    """One page of each kind, with all that it can show."""
    decision = decide(inputs(ranking(0.37, 3), ranking(0.4)), SETTINGS)
    compared = replace(
        small_comparison,
        failures=[Failure("ncf", 2, "RuntimeError: " + "a_long_word_without_a_space_" * 8)],
        entries=[
            entry(f"entry-{number}", 0.2 + number / 10, [1, 2], settings={"models.ncf.width": "x" * 80}) for number in range(3)
        ],
        reference="entry-0",
        matrix=[
            cell(f"entry-{one}", f"entry-{other}", 0.1, one > other) for one in range(3) for other in range(3) if one != other
        ],
    )
    tested = experiment()
    exposures, outcomes = lived(tested)
    report = report_experiment(tested, exposures, read_outcomes(outcomes_file(outcomes, tmp_path / "outcomes.csv")))
    plan = small_plan(tmp_path)
    ended(plan)
    rolling = Rolling(tmp_path / "rolling")
    rolling.report(2, requests=[9500, 500], events=errors(of_new=5, of_old=0), refused="The package torch is missing.")
    due = decide_due(DueSettings(), Position(None, None), Facts(TODAY, 10, "b"), model_name=NAME, dataset="shop/b", champion=None)
    return {
        "decision": decision_page(decision),
        "drift": render_drift(measured(True), "x.evidently.html"),
        "stable": render_drift(measured(False), None),
        "comparison": comparison_page(compared),
        "experiment": render_html(report),
        "estimate": render_estimate(estimated(1, 150)),
        "no-estimate": render_estimate(estimated(1, 40, min_users=200)),
        "rollout": rollout_page(rolling.standing(120)),
        "due": render_answer(due, [replace(due, at=TODAY - 86_400, age_s=86_400, new_events=1200)] * 3),
        "replay": replay_page(replay_results(plan, small_settings(tmp_path))),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an API whose store has pages."""
    root = tmp_path_factory.mktemp("read")
    draw(root / "v1", 1)
    store = LocalStore(root / "store")
    ref = publish(store, root / "v1")
    promote_version(store, ref.version)
    for key, content in (
        (f"{ref.prefix}/report.html", b"<h1>Promoted</h1>"),
        (f"{ref.prefix}/recsys_report.html", b"<h1>Evidently</h1>"),
        ("drift/ml-100k/0f9fc2d37b64-3bbd1f9e7b85/20260101T010000000000Z.html", b"<h1>Drift</h1>"),
        ("drift/ml-100k/0f9fc2d37b64-3bbd1f9e7b85/20260101T010000000000Z.json", b'{"verdict": "drifted"}'),
        ("comparisons/mine/report.html", b"<h1>Compared</h1>"),
        (f"rollouts/{ref.name}/00000002/report.html", b"<h1>Rolling out</h1>"),
        (f"rollouts/{ref.name}/00000002/report.json", b'{"said": "under way"}'),
        (f"due/{ref.name}/20260101T010000000000Z.html", b"<h1>Due</h1>"),
        (f"due/{ref.name}/20260101T010000000000Z.json", b'{"retrain": true}'),
    ):
        store.put_new(key, content)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(settings_of(root)), log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_everybody_can_read_every_report(page: Page, reports: dict[str, bytes], tmp_path: Path) -> None:
    pages = {}
    for name, content in reports.items():
        path = tmp_path / f"{name}.html"
        path.write_bytes(content)
        pages[name] = path.as_uri()
        if folder := os.environ.get("RECSYS_SHOTS"):
            shutil.copy(path, folder)
    assert page.context.browser is not None
    faults = faults_in_all_views(page.context.browser, pages)
    assert not faults, "\n".join(faults)


def test_everybody_can_read_what_evidently_draws(page: Page, tmp_path: Path) -> None:
    parts, data = small_split(), Data(news())
    table = synthetic.movies(synthetic.interactions(60, 40, 25))
    items = table.assign(year=pd.array(1950 + table["item_id"] % 50, dtype="Int64"))
    measure = detect_drift(data.reference(), data.halves()[1], data.item_table, DRIFT, beside=Beside(nouns=WORDS))
    assert measure.compared is not None
    (tmp_path / "recommendations.html").write_text(recommendations(noisy(parts, 0), noisy(parts, 1), parts, items))
    (tmp_path / "columns.html").write_bytes(draw_columns(measure.compared, measure.result, MonitoringSettings(), "run"))
    assert page.context.browser is not None
    pages = {name: (tmp_path / f"{name}.html").as_uri() for name in ("recommendations", "columns")}
    faults = faults_in_all_views(page.context.browser, pages, ready=".MuiCard-root")
    assert not faults, "\n".join(faults)


def test_everybody_can_try_a_request_in_the_documentation(page: Page, server: str) -> None:
    assert page.context.browser is not None
    for width, scheme in (VIEWS[0], VIEWS[-1]):
        view = page.context.browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
        view.set_default_timeout(PATIENCE_MS)
        view.goto(f"{server}/docs")
        ask = view.locator("#operations-recommendations-post_v1_recommendations, .opblock-post").first
        ask.locator(".opblock-summary-control").press("Enter")
        ask.get_by_role("button", name="Try it out").press("Enter")
        ask.get_by_role("button", name="Execute").press("Enter")
        ask.locator(".live-responses-table .response-col_status").get_by_text("200").wait_for()
        answer = ask.locator(".live-responses-table pre.microlight").first
        answer.focus()
        assert answer.evaluate("each => each === document.activeElement"), "the keyboard cannot scroll the answer"
        faults = faults_of(view)
        assert not faults, "\n".join([f"at {width} px, {scheme}", *faults])
        view.close()


def test_the_documentation_follows_the_browsers_scheme(page: Page, server: str) -> None:
    page.goto(f"{server}/docs")
    backgrounds = []
    for scheme in ("light", "dark", "light"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.wait_for_function(
            "wanted => document.documentElement.classList.contains('dark-mode') === wanted", arg=scheme == "dark"
        )
        backgrounds.append(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
        if folder := os.environ.get("RECSYS_SHOTS"):
            page.wait_for_selector(".opblock")
            page.screenshot(path=f"{folder}/docs-{scheme}.png")
    assert backgrounds[0] == backgrounds[2] != backgrounds[1] == "rgb(28, 32, 34)"


def test_everybody_can_read_what_the_server_shows(page: Page, server: str) -> None:
    assert page.context.browser is not None
    browser = page.context.browser
    faults = faults_in_all_views(browser, {"start": f"{server}/", "pages": f"{server}/pages/"})
    faults += faults_in_all_views(browser, {"documentation": f"{server}/docs"}, ready=".opblock")
    assert not faults, "\n".join(faults)
