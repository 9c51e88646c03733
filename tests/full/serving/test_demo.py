"""The demo in a real browser: every page is visited and used, as `recsys demo` serves it beside `recsys serve`.

`RECSYS_CHROMIUM` names the browser's program; `RECSYS_SHOTS` a folder for pictures of the pages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from serving.demo.app import PAGES
from tests.ports import reserved_port
from tests.serving.demo.conftest import lively  # noqa: F401  the same store as the fast tests

pytestmark = pytest.mark.full
CUT = """() => {
  const width = document.documentElement.clientWidth, main = document.querySelector("[data-testid=stMain]");
  const wide = [document.documentElement, main].filter((each) => each.scrollWidth > each.clientWidth);
  const shown = [...main.querySelectorAll("*")].filter((each) => each.getClientRects().length && each.innerText);
  return [...wide, ...shown.filter((each) => each.getBoundingClientRect().right > width + 1)].map((each) => each.outerHTML.slice(0, 200));
}"""
"""The elements of a page that are wider than the screen."""


def started(arguments: list[str], ready: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "flows.cli", *arguments], stdout=output, stderr=output)
    until = time.monotonic() + 600
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(ready).is_success:
                return process
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    process.kill()
    raise AssertionError(f"{arguments[0]} did not start:\n{log.read_text()}")


@contextmanager
def running_demo(folder: Path, store: list[str], files: Mapping[str, object]) -> Iterator[str]:
    """Run the demo beside a server of the same store, and yield its address.

    Args:
        folder: Where both write.
        store: The options that name the store and the model.
        files: The demo's files by setting: `rules`, `experiments`, `exposures` and `outcomes`.
    """
    api, port = reserved_port(), reserved_port()
    given = [part for name, value in files.items() for part in ("--set", f"{name}={json.dumps(str(value))}")]
    server = started(
        ["serve", "--port", str(api), *store, "--set", f"work_dir={folder}/serving"],
        f"http://127.0.0.1:{api}/readyz",
        folder / "serve",
    )
    try:
        demo = started(
            ["demo", *store, *given, "--set", f"port={port}", "--set", f"api_url=http://127.0.0.1:{api}", "--set", f"work_dir={folder}/demo"],
            f"http://127.0.0.1:{port}/_stcore/health",
            folder / "demo.log",
        )  # fmt: skip
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            demo.terminate()
            demo.wait(300)
    finally:
        server.terminate()
        server.wait(300)


@pytest.fixture(scope="module")
def address(lively, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # type: ignore[no-untyped-def]  # noqa: F811
    _, settings = lively
    store = ["--set", f"store.url={settings.store.url}", "--set", f"model_name={settings.model_name}"]
    files = {name: getattr(settings, name) for name in ("rules", "experiments", "exposures", "outcomes")}
    with running_demo(tmp_path_factory.mktemp("running"), store, files) as found:
        yield found


def visit(page: Page, address: str, path: str, title: str) -> None:
    page.goto(f"{address}/{path}")
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    settled(page)


def settled(page: Page) -> None:
    """Wait for the script to end; it must not have failed."""
    expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.locator("[data-testid=stSpinner]")).to_have_count(0)
    expect(page.locator("[data-testid=stException]")).to_have_count(0)


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("RECSYS_SHOTS"):
        page.wait_for_timeout(1500)  # for the picture only: charts fade in
        page.screenshot(path=f"{folder}/{name}.png")


def drawn(page: Page, charts: int) -> None:
    expect(page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg.marks")).to_have_count(charts)


def choose(page: Page, label: str, number: int) -> None:
    box = page.get_by_role("combobox", name=label).first
    box.evaluate("each => each.scrollIntoView({block: 'center'})")  # a page that scrolls closes the list of options
    box.click()
    page.get_by_role("option").nth(number).click()
    settled(page)


def films(page: Page) -> list[str]:
    return page.locator(".item .title").all_inner_texts()


def changed(page: Page, before: list[str]) -> list[str]:
    """Return ten films once they are drawn and differ from `before`, or have another order."""
    for _ in range(300):
        settled(page)
        if len(found := films(page)) == 10 and found != before:
            return found
        page.wait_for_timeout(100)
    raise AssertionError(f"the list stayed {before}")


def test_a_user_can_be_picked_and_the_time_changed(page: Page, address: str) -> None:
    visit(page, address, "", "What comes next")
    expect(page.locator(".item")).to_have_count(10)
    assert "close to" in page.locator(".item .why").first.inner_text()
    expect(page.locator(".truth")).to_contain_text("SS4Rec had it at rank")
    drawn(page, 2)
    shot(page, "recommend")
    first = films(page)
    slider = page.get_by_role("slider", name="Time until the request")
    slider.focus()
    for _ in range(9):
        slider.press("ArrowRight")
    expect(page.get_by_text("5 years").first).to_be_visible()
    later = changed(page, first)
    page.get_by_role("button", name="Another user").click()
    changed(page, later)
    user = page.get_by_label("Id of the user")
    user.fill("nobody")
    user.press("Enter")
    expect(page.get_by_text("nobody cannot be an id")).to_be_visible()


def test_titles_can_be_searched_and_a_history_built(page: Page, address: str) -> None:
    visit(page, address, "", "What comes next")
    page.get_by_role("radio", name="Build a history").or_(page.get_by_role("button", name="Build a history")).first.click()
    expect(page.get_by_text("No history yet")).to_be_visible()
    cold = films(page)
    search = page.get_by_label("Search films")
    search.fill("film 11")
    search.press("Enter")
    found = page.get_by_role("button", name="+ The Film 11")
    expect(found.first).to_be_visible()
    title = found.first.inner_text().removeprefix("+ ")
    found.first.click()
    expect(page.get_by_role("button", name=f"✕ {title}")).to_be_visible()
    settled(page)
    expect(page.get_by_text("No history yet")).to_have_count(0)
    assert title.split(" (")[0] not in changed(page, cold)
    shot(page, "built")
    page.get_by_role("button", name=f"✕ {title}").click()
    expect(page.get_by_text("No history yet")).to_be_visible()


def test_the_latest_run_is_told(page: Page, address: str) -> None:
    visit(page, address, "latest", "The latest run")
    expect(page.locator(".chapter")).to_have_count(6)
    expect(page.get_by_role("heading", name="What happens next?")).to_be_visible()
    shot(page, "latest")


def test_two_versions_can_be_compared(page: Page, address: str) -> None:
    visit(page, address, "compare", "Two versions side by side")
    expect(page.locator(".item")).to_have_count(20)
    drawn(page, 2)
    expect(page.locator(".item .move")).to_have_count(20)
    shot(page, "compare")
    choose(page, "Right", 0)
    expect(page.get_by_text("10 of the first 10 films are in both lists")).to_be_visible()


def test_the_live_list_follows_a_click(page: Page, address: str) -> None:
    visit(page, address, "live", "Live")
    expect(page.get_by_text("nothing known yet")).to_be_visible()
    for events in (1, 2):
        page.get_by_role("button", name="Choose").last.click()
        expect(page.get_by_text("applied", exact=False)).to_be_visible()
        expect(page.locator("[data-testid=stMetric]").nth(1)).to_contain_text(str(events))
        settled(page)
    expect(page.get_by_text("the stored state")).to_be_visible()
    drawn(page, 1)
    shot(page, "live")


def test_the_pipeline_page_shows_versions_and_their_metrics(page: Page, address: str) -> None:
    visit(page, address, "pipeline", "Pipeline")
    drawn(page, 2)
    expect(page.locator("table.plain")).not_to_have_count(0)
    shot(page, "pipeline")
    choose(page, "Version", 1)
    page.get_by_role("radio", name="HR@10").or_(page.get_by_role("button", name="HR@10")).first.click()
    settled(page)
    drawn(page, 2)


def test_the_drift_page_shows_the_report(page: Page, address: str) -> None:
    visit(page, address, "drift", "Drift")
    drawn(page, 1)
    page.get_by_text("Show the report").click()
    expect(page.frame_locator("iframe").get_by_role("heading", name="Drift")).to_be_visible()
    shot(page, "drift")


def test_the_experiments_page_shows_the_verdict_and_the_arm_of_a_user(page: Page, address: str) -> None:
    visit(page, address, "experiments", "A/B experiments")
    expect(page.get_by_text("challenger is better than control")).to_be_visible()
    drawn(page, 1)
    shot(page, "experiments")
    user = page.get_by_label("Which arm is a user in?", exact=True)
    user.fill("2")
    user.press("Enter")
    expect(page.get_by_text("User 2 is served with")).to_be_visible()


def test_every_page_can_be_reached_from_the_menu_and_nothing_fails_in_the_browser(page: Page, address: str) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    visit(page, address, "", "What comes next")
    for name in list(PAGES)[1:]:
        page.get_by_role("link", name=PAGES[name].title, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[name].heading)
        settled(page)
    assert faults == []


def test_a_phone_opens_the_menu_by_a_tap_and_every_page_fits(page: Page, address: str) -> None:
    """The menu covered the button that opens it, and 36 pixels of every page."""
    assert page.context.browser is not None
    context = page.context.browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme="dark"
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    visit(page, address, "", "What comes next")
    colour = page.locator(".item").first.evaluate("each => getComputedStyle(each).backgroundColor")
    assert colour == "rgb(17, 22, 27)", "the page is not dark"
    for name in [*list(PAGES)[1:], "recommend"]:
        page.get_by_test_id("stExpandSidebarButton").tap()
        page.get_by_role("link", name=PAGES[name].title, exact=True).tap()
        expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[name].heading)
        settled(page)
        if page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").is_visible():
            page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").tap()
        assert page.evaluate(CUT) == [], name
    context.close()
