from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import boto3
import click
import pytest
from typer.testing import CliRunner

from configs.errors import NotFoundError, SettingsError
from configs.settings import DataSettings, StoreSettings
from flows.cli.main import app
from infra.erasures import erase_user, erased_users, finished_users, read_erasure
from infra.storage import open_store
from tasks.datasets import list_datasets
from tests import own_events
from tests.doubles.moto_s3 import moto_s3
from tests.tasks.landed import NAME, Place, events


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


def test_a_user_is_removed_by_the_teams_own_id_and_messages_say_it(tmp_path: Path) -> None:
    shape = own_events.news(users=40, articles=60)
    place = Place(tmp_path)
    place.data = DataSettings.model_validate({"dataset": NAME, **shape.data, **shape.tables})
    for name, cells in own_events.deliveries(shape)[0].items():
        place.put(name, cells)
    before = place.land(now=1_780_000_000.0).dataset
    options = [
        "--set",
        f"store.url=file:{place.store.folder}",
        "--set",
        f"data.dataset={NAME}",
        "--set",
        f"etl.work_dir={tmp_path}/w",
    ]
    recsys("list", "--json", str(tmp_path / "list.json"), *options[:2])
    (listed,) = json.loads((tmp_path / "list.json").read_text())
    assert listed["properties"] == {**asdict(before.properties)} and listed["properties"]["user_ids"] == "text"
    with pytest.raises(NotFoundError, match="has nothing of user nobody; nothing was removed"):
        recsys("remove", "--user", "nobody", "--reason", "asked", *options)
    cookie = str(shape.events["cookie"].iloc[0])
    said = " ".join(recsys("remove", "--user", cookie, "--reason", "asked", *options).split())
    assert f"removed user {cookie} (" in said and f"{before.users - 1:,} users" in said


def test_an_integer_id_is_asked_for_where_ids_are_integers(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (2, 1, 3, 5)))
    place.land()
    options = ["--set", f"store.url=file:{place.store.folder}", "--set", f"data.dataset={NAME}", "--reason", "asked"]
    with pytest.raises(SettingsError, match="--user is ann, but the ids of small are whole numbers"):
        recsys("remove", "--user", "ann", *options)


def test_a_user_is_erased_and_the_command_says_what_was_done_and_what_remains(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (1, 2, 3, 5), (2, 1, 5, 9), (3, 1, 5, 9)))
    place.land()
    options = ["--set", f"store.url=file:{place.store.folder}", "--set", f"etl.work_dir={tmp_path}/w"]
    with pytest.raises(SettingsError, match="Say why the user is erased"):
        recsys("erase", "--user", "1", *options)
    said = " ".join(recsys("erase", "--user", "1", "--reason", "asked", "--json", str(tmp_path / "e.json"), *options).split())
    assert "2 events removed" in said and "landing zones, exports and backups" in said
    assert list_datasets(place.store)[-1].users == 2
    assert read_erasure(place.store, 1).reason == "asked"
    (record,) = [json.loads(place.store.get(key)) for key in place.store.list("erasures/done/1/")]
    assert record["steps"] == json.loads((tmp_path / "e.json").read_text())[0]["steps"]
    assert "No erasure is waiting" in recsys("erase", *options)
    erase_user(place.store, 3, reason="DELETE /v1/users", by="shop", now=datetime(2026, 11, 24, tzinfo=UTC))
    assert "1 events removed" in " ".join(recsys("erase", *options).split())
    assert list_datasets(place.store)[-1].users == 1 and erased_users(place.store) == finished_users(place.store) == {1, 3}


def test_histories_are_stored_for_serving_and_the_command_says_where(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (1, 2, 3, 5), (2, 1, 5, 9)))
    place.land()
    given = ("--set", f"store.url=file:{place.store.folder}", "--set", f"data.dataset={NAME}")
    said = recsys("histories", *given, "--json", str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    assert "histories of 2 users" in said and found["users"] == 2
    assert place.store.exists("histories/" + found["address"].rpartition("/histories/")[2])
