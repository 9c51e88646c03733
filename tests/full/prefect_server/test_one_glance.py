"""What a person sees of a retraining in the Prefect UI: three questions are answered in at most two clicks from the list of runs.

`RECSYS_SHOTS` names a folder for pictures of the pages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Page, expect

from tests import synthetic
from tests.doubles.live_prefect import recsys
from tests.flows.conftest import LEAN
from tests.full.prefect_server.prefect_process import ask, prefect_server

pytestmark = pytest.mark.full
WIDE = """() => [...document.querySelectorAll("table")].map(table => {
  let around = table.parentElement;
  while (around.parentElement && around.clientWidth >= around.scrollWidth && getComputedStyle(around).overflowX === "visible")
    around = around.parentElement;
  return Math.max(around.scrollWidth - around.clientWidth, 0);
})"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


@pytest.fixture(scope="module")
def held(server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the second of two retrainings with the same data and seed: it is held, because it is not better."""
    folder = tmp_path_factory.mktemp("held")
    path = synthetic.write_csv(folder / "data", synthetic.interactions(80, 40, 25))
    places = {
        "data": {"local_path": str(path), "cache_dir": str(folder / "cache")},
        "store": {"url": f"file:{folder}/store", "pages_url": "http://pages.example.org/pages"},
        "work_dir": str(folder / "work"),
    }
    (folder / "run.yaml").write_text(yaml.safe_dump({**LEAN, **places}))
    said = ""
    for _ in range(2):
        done = recsys(["retrain", "-c", "run.yaml"], server, folder)
        assert done.returncode == 0, done.stderr
        said = done.stdout
    runs = ask(server, "flow_runs/filter", flows={"name": {"any_": ["retrain"]}}, sort="START_TIME_DESC")
    return {"run": runs[0], "first": runs[1], "said": said, "folder": folder}


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("RECSYS_SHOTS"):
        page.wait_for_timeout(2500)  # for the picture only: the graph is drawn
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=Path(folder) / f"{name}-{scheme}.png", full_page=True)


def test_the_terminal_answers_the_three_questions(held: dict[str, Any]) -> None:
    *_, promoted, data, cost = held["said"].splitlines()
    assert promoted.startswith("promoted: no. NDCG@10 0.") and "against the champion's 0." in promoted
    assert data.startswith("data: The data is all right: 2,000 events of 80 users")
    assert cost.startswith("cost: No machine was rented. The run took ")
    assert "Against the champion:" in held["said"] and "✗ held" in held["said"] and "○ no loss shown" in held["said"]


def test_names_and_states_say_what_happened(server: dict[str, str], held: dict[str, Any]) -> None:
    run, first = held["run"], held["first"]
    assert (run["state_name"], run["state_type"], first["state_name"]) == ("Held", "COMPLETED", "Promoted")
    assert "NDCG@10" in run["name"] and "against" in run["name"] and "no champion before" in first["name"]
    assert "The data is all right" in run["state"]["message"] and "No machine was rented" in run["state"]["message"]
    tasks = {task["name"] for task in ask(server, "task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})}
    assert {"promotion: held", "gate: held", "drift: too small to judge"} <= tasks
    parts = ask(server, "flow_runs/filter", flow_runs={"parent_flow_run_id": {"any_": [run["id"]]}})
    shown = ask(server, "artifacts/filter", artifacts={"flow_run_id": {"any_": [run["id"], *(part["id"] for part in parts)]}})
    keys = [artifact["key"] for artifact in shown if artifact["key"]]
    assert sorted(keys) == ["data", "drift", "gate", "metrics", "summary"]
    assert not [artifact for artifact in shown if artifact["type"] in ("image", "progress")]
    (summary,) = [artifact for artifact in shown if artifact["key"] == "summary"]
    assert summary["task_run_id"] is None and "](http://pages.example.org/pages/models/movie-ranker/" in summary["data"]


def test_a_filter_by_the_name_completed_leaves_named_states_out(server: dict[str, str], held: dict[str, Any]) -> None:
    """Both UIs send the names of states. docs/how-to/schedules.md says what to do."""

    def found(**state: Any) -> set[str]:
        return {run["id"] for run in ask(server, "flow_runs/filter", flow_runs={"state": state})}

    ours = {held["run"]["id"], held["first"]["id"]}
    assert not ours & found(name={"any_": ["Completed"]}) and ours <= found(type={"any_": ["COMPLETED"]})
    assert ours <= found(name={"any_": ["Held", "Promoted"]})


@pytest.mark.parametrize("ui", ["", pytest.param("/v2", marks=pytest.mark.nightly)])
def test_three_questions_are_answered_in_two_clicks(server: dict[str, str], held: dict[str, Any], page: Page, ui: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.goto(f"{server['PREFECT_UI_URL']}{ui}/runs")
    run = page.get_by_role("link", name=held["run"]["name"])
    expect(run).to_be_visible()
    expect(page.get_by_text("Held", exact=True).first).to_be_visible()
    shot(page, f"runs{ui.replace('/', '-')}")
    run.click()
    # One click: the page of the run, whose log begins with the address of the summary.
    expect(page.get_by_text("Held", exact=True).first).to_be_visible()
    shot(page, f"run{ui.replace('/', '-')}")
    # Two clicks: the summary.
    link = page.get_by_role("link", name="/artifacts/artifact/").first
    link.evaluate("each => each.removeAttribute('target')")  # the UI opens it in a new tab
    link.click()
    for said in (
        r"Was it promoted\? No\. NDCG@10 0\.",
        r"Is the data all right\? Yes: ",
        r"What did it cost\? No machine was rented\.",
        r"What next\? \w+ stays champion",
    ):
        expect(page.locator("body")).to_contain_text(re.compile(said))
    curve = page.locator("img[src^='data:image/png']").first
    expect(curve).to_be_visible()
    assert curve.evaluate("each => each.naturalWidth") > 300, "the browser has drawn it"
    expect(page.get_by_role("link", name="The decision, with every figure")).to_have_attribute(
        "href", f"http://pages.example.org/pages/models/movie-ranker/{version_of(held)}/report.html"
    )
    assert page.evaluate(WIDE) and max(page.evaluate(WIDE)) == 0, "a table is cut off at the right"
    shot(page, f"summary{ui.replace('/', '-')}")


def version_of(held: dict[str, Any]) -> str:
    """Return the version that the terminal has named."""
    line = next(line for line in held["said"].splitlines() if line.startswith("stored at "))
    return line.rpartition("/")[2]


@pytest.mark.parametrize("key", ["gate", "metrics", "drift", "data"])
def test_no_other_artifact_is_cut_off(server: dict[str, str], held: dict[str, Any], page: Page, key: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 1000})
    (found,) = ask(server, "artifacts/latest/filter", artifacts={"key": {"any_": [key]}})
    page.goto(f"{server['PREFECT_UI_URL']}/artifacts/artifact/{found['latest_id']}")
    expect(page.locator("table").first).to_be_visible()
    assert max(page.evaluate(WIDE)) == 0, "a table is cut off at the right"
    shot(page, key)
