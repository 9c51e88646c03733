"""The demo serves the pages of the store beside Streamlit."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from configs.serving import DemoSettings
from serving.demo import server
from serving.demo.context import SETTINGS


@pytest.mark.full
def test_the_demo_shows_the_pages_of_its_store_and_nothing_else_of_it(
    settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTINGS, settings.model_dump_json())
    server.stored_pages.cache_clear()
    with TestClient(Starlette(routes=server.ROUTES)) as client:
        index = client.get("/pages")
        links = [part.partition('"')[0] for part in index.text.split('<a href="')[1:]]
        assert any(link.startswith("drift/") for link in links) and any(link.startswith("models/") for link in links)
        for link in links:
            page = client.get(f"/pages/{link}")
            assert page.status_code == 200 and "sandbox" in page.headers["content-security-policy"]
        version = next(link.rpartition("/")[0] for link in links if link.startswith("models/"))
        assert client.get(f"/pages/{version}/manifest.json").status_code == 404
    server.stored_pages.cache_clear()
