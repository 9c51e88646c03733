"""Everybody can use the demo: with a small screen, with a keyboard, and with eyes that need contrast."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from serving.demo.app import PAGES
from tests.full.pages.accessibility import VIEWS, faults_of, keyboard_faults
from tests.full.serving.test_demo import running_demo, settled
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
