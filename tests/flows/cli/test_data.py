from __future__ import annotations

from pathlib import Path

import boto3
import click
import pytest
from typer.testing import CliRunner

from configs.errors import NotFoundError, SettingsError
from configs.settings import StoreSettings
from flows.cli.main import app
from infra.storage import open_store
from tests.doubles.moto_s3 import moto_s3


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of what a program of this machine is asked to open."""
    found: list[str] = []
    monkeypatch.setattr(click, "launch", lambda path: found.append(path) or 0)
    monkeypatch.setattr("typer.launch", lambda path: found.append(path) or 0)
    return found


def recsys(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["data", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_a_page_in_a_folder_is_opened_in_its_place(tmp_path: Path, opened: list[str]) -> None:
    store = open_store(StoreSettings(url=f"file:{tmp_path}/the store"))
    store.put_new("models/ranker/v/report.html", b"<html>")
    recsys("open", store.uri("models/ranker/v/report.html"))
    assert opened == [str(tmp_path / "the store/models/ranker/v/report.html")]


def test_a_page_in_a_bucket_is_fetched_and_a_version_is_listed(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto_s3() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        boto3.client("s3").create_bucket(Bucket="shelf")
        store = open_store(StoreSettings(url="s3://shelf/production"))
        store.put_new("models/ranker/v/report.html", b"<html>")
        page = store.uri("models/ranker/v/report.html")
        assert recsys("open", store.uri("models/ranker/v")).strip() == page and not opened
        said = recsys("open", page)
        assert len(opened) == 1 and Path(opened[0]).read_bytes() == b"<html>" and opened[0] in said.replace("\n", "")
        recsys("open", page, "--to", str(tmp_path / "page.html"))
        assert (tmp_path / "page.html").read_bytes() == b"<html>" and len(opened) == 1
        with pytest.raises(NotFoundError, match="no object has an address below it"):
            recsys("open", page + "x")


@pytest.mark.parametrize(
    ("address", "said"), [("https://x/y", "is not a store address"), ("s3://bucket", "names a store, but no object in it")]
)
def test_the_message_says_why_an_address_is_invalid(address: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        recsys("open", address)


def test_a_retry_without_a_landing_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no landing zone whose files could be retried"):
        recsys("retry", "--set", f"store.url=file:{tmp_path}/store")
