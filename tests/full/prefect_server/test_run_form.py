"""The form of a run as a person sees it: a real Prefect server in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from prefect.client.orchestration import SyncPrefectClient

from configs.settings import RetrainSettings
from flows.retrain import retrain
from infra.prefect_server.deployments import apply_deployment, deployment_defined, read_prefect_file
from infra.prefect_server.environment import EnvironmentSettings
from tests import synthetic
from tests.full.prefect_server.prefect_process import ask, prefect_server, wait_until

pytestmark = pytest.mark.full
TWO_SCREENS = 1600
DRAWN = ("retrain", "promote", "monitor")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run a Prefect server with some of the deployments, and yield the environment that names it."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        ask(environment, "work_pools/", name="recsys", type="process")
        entries, pull = read_prefect_file()
        with SyncPrefectClient(environment["PREFECT_API_URL"]) as client:
            for entry in entries:
                if entry["name"] in DRAWN:
                    apply_deployment(client, deployment_defined(entry, pull, EnvironmentSettings()), active=False)
        yield environment


def open_form(page: Page, server: dict[str, str], name: str) -> None:
    (found,) = ask(server, "deployments/filter", deployments={"name": {"any_": [name]}})
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{server['PREFECT_UI_URL']}/deployments/deployment/{found['id']}/run")
    expect(page.get_by_text("Advanced", exact=False).last).to_be_visible()


def field(page: Page, title: str) -> Any:
    return page.locator(".schema-form-property").filter(has=page.get_by_text(title)).last


@pytest.mark.parametrize("name", DRAWN)
def test_submit_is_within_two_screens(page: Page, server: dict[str, str], name: str) -> None:
    open_form(page, server, name)
    page.set_viewport_size({"width": 1280, "height": 4000})  # nothing scrolls, so the place on the page is that in the window
    submit = page.get_by_role("button", name="Submit").bounding_box()
    assert submit is not None and submit["y"] + submit["height"] <= TWO_SCREENS
    assert page.get_by_text('Property is type "None"').count() == 0
    assert "s3:///" not in page.inner_text("body")


def test_a_person_starts_a_quick_run_and_a_bad_value_is_refused_in_one_sentence(
    page: Page, server: dict[str, str], tmp_path: Path
) -> None:
    open_form(page, server, "retrain")
    events = synthetic.write_csv(tmp_path / "data", synthetic.interactions(80, 40, 25))
    field(page, "Preset (Optional)").get_by_role("button", name="default").focus()
    page.keyboard.press("ArrowDown")
    page.get_by_role("option", name="quick").click()
    field(page, "Data local path").locator("textarea").fill(str(events))
    advanced = page.locator(".p-code-input textarea").last
    advanced.fill('{"promotion.alpha": 3}')
    page.get_by_role("button", name="Submit").click()
    refused = (
        "Validation failed for field \"settings.advanced['promotion.alpha']\". Failure reason: 3 is greater than or equal to"
    )
    expect(page.get_by_text(refused).first).to_be_visible()
    assert not ask(server, "flow_runs/filter", limit=5)
    advanced.fill('{"promotion.alpha": 0.01}')
    page.get_by_role("button", name="Submit").click()
    wait_until(lambda: ask(server, "flow_runs/filter", limit=5), 600, "the run")
    (run,) = ask(server, "flow_runs/filter", limit=5)
    settings = retrain.validate_parameters(run["parameters"])["settings"]
    assert isinstance(settings, RetrainSettings)
    assert (settings.models.ss4rec.max_epochs, settings.promotion.alpha, settings.data.local_path) == (2, 0.01, events)
