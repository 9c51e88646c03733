"""Stored pages have addresses that a browser opens, and nothing else of a store has one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from configs.settings import StoreSettings
from infra.pages import is_page, page_link
from infra.storage import S3Store
from infra.storage.local import LocalStore

VERSION = "20261129T202659Z-98187ce6a8a0bd5bc91e8dcfe9ece291"
PAGES = [
    f"models/movie-ranker/{VERSION}/report.html",
    f"models/movie-ranker/{VERSION}/recsys_report.html",
    f"models/movie-ranker/{VERSION}/decision.json",
    f"decisions/movie-ranker/{VERSION}/20261129T202659123456Z.html",
    "drift/ml-100k/0f9fc2d37b64-12/20261129T202416375687Z.html",
    "drift/ml-100k/0f9fc2d37b64-12/20261129T202416375687Z.evidently.html",
    f"runs/movie-ranker/{VERSION}/ss4rec.json",
    "comparisons/abc123/report.html",
    "rollouts/movie-ranker/00000002/report.html",
    "replays/abc123/replay/report.html",
    f"replays/abc123/models/movie-ranker/{VERSION}/report.html",
]
OTHERS = [
    f"models/movie-ranker/{VERSION}/model.safetensors",
    f"models/movie-ranker/{VERSION}/sample_requests.json",
    f"models/movie-ranker/{VERSION}/manifest.json",
    f"models/movie-ranker/../{VERSION}/report.html",
    f"/models/movie-ranker/{VERSION}/report.html",
    f"models/movie-ranker/{VERSION}/report.html\n",
    f"models/movie-ranker/{VERSION}/sub/report.html",
    "models/../report.html",
    "replays/../replay/report.html",
    "datasets/ml-100k/0f9fc2d37b64/interactions.parquet",
    "datasets/ml-100k/0f9fc2d37b64/manifest.json",
    "histories/ml-100k/1.bin",
    "exposures/20260101/a.jsonl",
    "outcomes/20260101/a.jsonl",
    "promotions/movie-ranker/00000001.json",
    "rollouts/movie-ranker/00000002/measured/host-1-abc-000001.json",
    "landing/ml-100k/log/00000001.json",
    ".tmp/1-abc",
    "",
]


@pytest.mark.parametrize("key", PAGES)
def test_a_stored_page_has_a_link(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    local = StoreSettings(url="file:a folder/store", pages_url="https://pages.example.org/pages/")
    assert page_link(LocalStore(Path("a folder/store")).uri(key), local) == f"https://pages.example.org/pages/{key}"
    for url in ("s3://bucket/some/prefix", "s3://bucket"):
        remote = local.model_copy(update={"url": url, "endpoint_url": "http://127.0.0.1:9", "region": "eu-west-1"})
        place = remote.place
        assert isinstance(place, tuple)
        assert page_link(S3Store(*place, remote).uri(key), remote) == f"https://pages.example.org/pages/{key}"


@pytest.mark.parametrize("key", OTHERS)
def test_nothing_else_of_a_store_is_a_page(key: str) -> None:
    store = StoreSettings(url="file:/data/store", pages_url="http://127.0.0.1:8000/pages")
    assert not is_page(key)
    assert page_link(f"file:///data/store/{key}", store) is None


def test_a_page_has_no_link_if_pages_are_not_served_or_are_in_another_store() -> None:
    page = f"file:///data/store/{PAGES[0]}"
    assert page_link(page, StoreSettings(url="file:/data/store")) is None
    assert page_link(page, StoreSettings(url="file:/data/other", pages_url="http://127.0.0.1:8000/pages")) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("127.0.0.1:8000/pages", "a browser opens"),
        ("javascript:alert(1)", "a browser opens"),
        ("http://me:secret@host", "password"),
    ],
)
def test_an_address_that_no_browser_opens_or_that_has_a_password_is_refused(given: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        StoreSettings(pages_url=given)
