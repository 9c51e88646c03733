"""Pages of the store over HTTP: what is served, how, and what is not."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from configs.errors import StoreDeniedError
from infra.storage.local import LocalStore
from serving.api.app import create_app
from serving.pages import StoredPages, stored
from tests.planted import PLANTED, planted_elements
from tests.serving.versions import draw, promote_version, publish, settings_of

DRIFT = "drift/small/abc"
STAMP = "20260101T010000000000Z"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pages")
    draw(root / "v1", 1)
    store = LocalStore(root / "store")
    ref = publish(store, root / "v1")
    promote_version(store, ref.version)
    for key, content in {
        f"{ref.prefix}/report.html": "<h1>Promoted</h1>",
        f"{ref.prefix}/recsys_report.html": "<script>1</script>" + "evidently " * 100_000,
        f"decisions/ranker/{ref.version}/{STAMP}.html": "<h1>Held</h1>",
        f"runs/ranker/{ref.version}/ss4rec.json": "{}",
        f"{DRIFT}/{STAMP}.html": f'<a href="{STAMP}.evidently.html">Evidently</a>',
        f"{DRIFT}/{STAMP}.evidently.html": "<script>2</script>",
        f"{DRIFT}/{STAMP}.json": json.dumps({"verdict": PLANTED[0]}),
        "comparisons/mine/report.html": "<h1>Compared</h1>",
        "replays/years/replay/report.html": "<h1>Replayed</h1>",
        "replays/years/models/ranker/v/report.html": "<h1>Inner</h1>",
        "secret.html": "no page",
    }.items():
        store.put_new(key, content.encode())
    (root / "outside.html").write_text("outside")
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Any:
    with TestClient(create_app(settings_of(root)), raise_server_exceptions=False) as client:
        yield client


def version(root: Path) -> str:
    return next((root / "store" / "models" / "ranker").iterdir()).name


def test_a_page_comes_as_it_was_stored_and_may_do_nothing(client: TestClient, root: Path) -> None:
    page = client.get(f"/pages/models/ranker/{version(root)}/report.html")
    assert (page.status_code, page.text) == (200, "<h1>Promoted</h1>")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("sandbox;") and "default-src 'none'" in policy and "script-src" not in policy
    assert page.headers["x-content-type-options"] == "nosniff" and page.headers["content-type"] == "text/html; charset=utf-8"
    drawn = client.get(f"/pages/{DRIFT}/{STAMP}.evidently.html").headers["content-security-policy"]
    assert drawn.startswith("sandbox allow-scripts;") and "allow-same-origin" not in drawn and "connect-src" not in drawn


def test_a_page_is_packed_and_not_sent_again_while_it_is_the_same(client: TestClient, root: Path) -> None:
    address = f"/pages/models/ranker/{version(root)}/recsys_report.html"
    packed = client.get(address)
    assert packed.headers["content-encoding"] == "gzip" and int(packed.headers["content-length"]) < 10_000 < len(packed.content)
    plain = client.get(address, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.content == packed.content
    assert int(plain.headers["content-length"]) == len(plain.content)
    again = client.get(address, headers={"If-None-Match": packed.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "key",
    [
        "models/ranker/{v}/model.safetensors",
        "models/ranker/{v}/manifest.json",
        "models/ranker/{v}/sample_requests.json",
        "models/ranker/{v}",
        "models/ranker/{v}/",
        "models/ranker/nothing/report.html",
        "promotions/ranker/00000001.json",
        "secret.html",
        "../outside.html",
        "%2e%2e/outside.html",
        "models/ranker/..%2f..%2f..%2f..%2foutside.html",
        "models/%2e%2e/%2e%2e/report.html",
        "models//ranker/{v}/report.html",
        "/etc/passwd",
    ],
)
def test_nothing_else_of_the_store_or_the_machine_is_served(client: TestClient, root: Path, key: str) -> None:
    answer = client.get(f"/pages/{key.format(v=version(root))}")
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json", answer.text
    assert str(root) not in answer.text


def test_the_index_lists_the_newest_pages_by_links_that_lead_to_them(client: TestClient, root: Path) -> None:
    index = client.get("/pages")
    assert index.url.path == "/pages/" and planted_elements(index.text) == []
    links = [part.partition('"')[0] for part in index.text.split('<a href="')[1:]]
    assert {link.split("/")[0] for link in links} == {"models", "decisions", "runs", "drift", "comparisons", "replays"}
    assert all(client.get(f"/pages/{link}").status_code == 200 for link in links) and "replays/years/models" not in index.text
    assert "champion" in index.text and "2026-01-01 01:00 UTC" in index.text


def test_a_part_of_the_store_that_may_not_be_read_hides_no_other_part(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Denying(LocalStore):
        def list(self, prefix: str = "") -> Any:
            if prefix in denied:
                raise StoreDeniedError("not for you")
            return super().list(prefix)

    pages, denied = StoredPages(Denying(root / "store")), {"drift/"}
    shown = gzip.decompress(asyncio.run(pages.index()).packed).decode()
    assert "This part of the store cannot be read" in shown and "mine" in shown
    denied |= {"models/", "rollouts/", "due/", "comparisons/", "replays/"}
    with pytest.raises(HTTPException) as caught:
        asyncio.run(StoredPages(Denying(root / "store")).index())
    assert caught.value.status_code == 503 and "not for you" not in caught.value.detail


def test_a_page_beyond_the_bound_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST", 1000)
    with pytest.raises(HTTPException) as caught:
        asyncio.run(StoredPages(LocalStore(root / "store")).page(f"models/ranker/{version(root)}/recsys_report.html"))
    assert caught.value.status_code == 503


def test_a_page_that_many_ask_for_is_read_once(root: Path) -> None:
    class Counting(LocalStore):
        reads = 0

        def get(self, key: str, limit: int | None = None) -> bytes:
            Counting.reads += 1
            return super().get(key, limit)

    async def ask() -> None:
        pages = StoredPages(Counting(root / "store"))
        await asyncio.gather(*[pages.page(f"{DRIFT}/{STAMP}.html") for _ in range(20)])

    asyncio.run(ask())
    assert Counting.reads <= stored.AT_ONCE
