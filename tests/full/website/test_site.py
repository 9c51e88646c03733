"""The site builds strictly, without the internet, and its pages can be used by everyone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from tests.full.conftest import CHROMIUM
from tests.volume import NIGHTLY

pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[3]
FETCHED = re.compile(
    r"""(?:<(?:script|img|iframe)[^>]*\ssrc|<link[^>]*rel="(?:stylesheet|icon|preload)"[^>]*href)="?(https?:)?//"""
)
SOME = (
    "index",
    "getting-started/first-session",
    "how-to/own-model",
    "architecture/index",
    "reference/metrics",
    "benchmarks/gate",
)


def shown(site: Path) -> list[str]:
    """Return the pages to look at: one of each kind, and in the nightly tests all that open without a server."""
    every = sorted(path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html"))
    return [name for name in every if name != "404"] if NIGHTLY else list(SOME)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {
        **os.environ,
        "NO_MKDOCS_2_WARNING": "1",
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_the_strict_build_makes_every_page_and_fetches_nothing(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    sources = [path for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > len(sources) and (site / "reference" / "settings.html").stat().st_size > 50_000
    assert {path.name: found for path in pages if (found := FETCHED.findall(path.read_text(encoding="utf-8")))} == {}
    assert not re.search(r"url\((https?:)?//", (site / "assets" / "site.css").read_text(encoding="utf-8"))


def test_pages_fit_a_phone_draw_their_diagrams_find_words_and_pass_axe(site: Path) -> None:
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--allow-file-access-from-files"])
        for scheme, width in (("light", 390), ("dark", 1280)):
            context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})  # type: ignore[arg-type]
            view = context.new_page()
            asked: list[str] = []
            view.on("request", lambda request, asked=asked: asked.append(request.url))
            for name in shown(site):
                view.goto((site / f"{name}.html").as_uri())
                if name == "architecture/index":
                    view.wait_for_selector("div.mermaid", timeout=20_000)
                wider = view.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if wider > 0:
                    faults.append(f"{name} at {width}: {wider} px too wide")
                options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
                found = Axe().run(view, options=options).response["violations"]
                faults += [f"{name} {scheme}: {one['id']}: {one['nodes'][0]['html'][:160]}" for one in found]
            if width > 1000:
                view.fill(".md-search__input", "rollback", force=True)
                view.wait_for_selector(".md-search-result__item", timeout=20_000)
            assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
            context.close()
        browser.close()
    assert faults == []
