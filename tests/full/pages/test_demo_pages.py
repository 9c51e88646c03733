"""Everybody can use the demo: with a small screen, with a keyboard, and with eyes that need contrast."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from serving.demo.app import PAGES
from tests.full.pages.accessibility import VIEWS, faults_of, keyboard_faults
from tests.full.serving.test_demo import running_demo, settled, visit
from tests.serving.demo.conftest import lively  # noqa: F401  the same store as the fast tests

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def address(lively, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # type: ignore[no-untyped-def]  # noqa: F811
    _, settings = lively
    store = ["--set", f"store.url={settings.store.url}", "--set", f"model_name={settings.model_name}"]
    files = {name: getattr(settings, name) for name in ("rules", "experiments", "exposures", "outcomes")}
    with running_demo(tmp_path_factory.mktemp("read"), store, files) as found:
        yield found


def test_everybody_can_use_every_page_of_the_demo(page: Page, address: str) -> None:
    assert page.context.browser is not None
    faults = []
    for width, scheme in (VIEWS[0], VIEWS[-1]):
        view = page.context.browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
        for path in ("", *list(PAGES)[1:], "pages/"):  # the first page is that of the address itself
            view.goto(f"{address}/{path}")
            view.wait_for_selector("h1")
            if path != "pages/":
                settled(view)
            found = faults_of(view) + (keyboard_faults(view) if width == VIEWS[0][0] else [])
            faults += [f"{path or 'the first page'} at {width} px, {scheme}: {fault}" for fault in found]
        view.close()
    assert not faults, "\n".join(faults)


def tab_to(page: Page, control: Locator) -> Locator:
    """Press Tab until a control has the focus."""
    expect(control).to_be_visible()
    for _ in range(150):
        if control.evaluate("each => each === document.activeElement"):
            return control
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {control}")


def test_a_keyboard_is_enough_to_recommend_build_a_history_and_read_a_report(page: Page, address: str) -> None:
    visit(page, address, "", "What comes next")
    cards = page.locator(".item")
    expect(cards).to_have_count(10)
    best = page.locator(".item .title").first.inner_text()
    tab_to(page, page.get_by_role("slider", name="How many"))
    page.keyboard.press("ArrowLeft")
    expect(cards).to_have_count(9)
    tab_to(page, page.get_by_role("combobox", name="Model version"))
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option")).to_have_count(2)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("option")).to_have_count(0)
    settled(page)
    tab_to(page, page.get_by_role("button", name="Another user"))
    page.keyboard.press("Enter")
    expect(page.locator(".item .title").first).not_to_have_text(best)
    settled(page)
    tab_to(page, page.get_by_role("radio", name="A real user"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.get_by_text("No history yet")).to_be_visible()
    tab_to(page, page.get_by_label("Search films"))
    page.keyboard.type("film 11")
    page.keyboard.press("Enter")
    add = page.get_by_role("button", name="+ The Film 11").first
    tab_to(page, add)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="✕ The Film 11").first).to_be_visible()
    settled(page)
    page.evaluate("document.activeElement.blur()")
    tab_to(page, page.get_by_role("link", name="The latest run"))
    page.keyboard.press("Enter")
    expect(page.locator(".chapter")).to_have_count(6)
    settled(page)
    tab_to(page, page.get_by_role("link", name="All reports"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Pages of the store")
    tab_to(page, page.get_by_role("link", name="checks", exact=True).first)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Drift of the newest slice")
