"""Uploads in parts, on a server that honours If-None-Match when the parts are put together."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import boto3
import botocore.exceptions
import pytest

from configs.errors import AlreadyExistsError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.storage import S3Store, s3_multipart
from infra.storage.s3_multipart import MultipartCreate
from tests.doubles.moto_s3 import moto_s3

MB = 1 << 20


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_s3() as running:
        yield running


@pytest.fixture
def settings(endpoint: str, request: pytest.FixtureRequest) -> StoreSettings:
    values = {"url": "s3://parts", "endpoint_url": endpoint, "access_key_id": "testing", "secret_access_key": "testing"}
    found = StoreSettings.model_validate({**values, "part_mb": 5, "timeout_s": 30})
    S3Store("parts", "", found)._client.create_bucket(Bucket="parts")
    return found


def opened(settings: StoreSettings, request: pytest.FixtureRequest) -> S3Store:
    return S3Store("parts", request.node.name, settings)


def uploads(store: S3Store) -> list[Any]:
    found: list[Any] = store._client.list_multipart_uploads(Bucket="parts").get("Uploads", [])
    return found


@pytest.mark.full
def test_an_object_larger_than_a_part_goes_in_parts_and_is_created_once(
    settings: StoreSettings, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store, content = opened(settings, request), bytes(range(256)) * (12 * MB // 256)
    (tmp_path / "large").write_bytes(content)
    store.put_new("k", tmp_path / "large")
    head = store._client.head_object(Bucket="parts", Key=f"{store.prefix}/k")
    assert head["ETag"].strip('"').endswith("-3") and store.get("k") == content
    with pytest.raises(AlreadyExistsError):
        store.put_new("k", b"other" * 2 * MB)
    assert store.get("k") == content and uploads(store) == []
    store.put("k", content[MB:])
    head = store._client.head_object(Bucket="parts", Key=f"{store.prefix}/k")
    assert head["ETag"].strip('"').endswith("-3") and store.get("k") == content[MB:]
    assert list(store.list()) == ["k"] and uploads(store) == []


def test_if_a_part_cannot_be_sent_the_old_object_stays_and_no_parts_are_left(
    settings: StoreSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(settings, request)
    store.put("k", b"old")
    send = store._client.upload_part

    def second_is_lost(**arguments: Any) -> Any:
        if arguments["PartNumber"] == 2:
            raise botocore.exceptions.ConnectionClosedError(endpoint_url="here")
        return send(**arguments)

    monkeypatch.setattr(store._client, "upload_part", second_is_lost)
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        store.put("k", b"x" * 12 * MB)
    assert store.get("k") == b"old" and uploads(store) == []


@pytest.mark.full
def test_one_of_many_creates_in_parts_wins(
    settings: StoreSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [opened(settings, request) for _ in range(6)]
    one_at_a_time = Lock()  # S3 checks the condition and makes the object in one step, moto in two

    def as_one_step(complete: Any, **arguments: Any) -> Any:
        with one_at_a_time:
            return complete(**arguments)

    for store in stores:
        own = partial(as_one_step, store._client.complete_multipart_upload)
        monkeypatch.setattr(store._client, "complete_multipart_upload", own)

    def create(writer: int) -> int | None:
        try:
            stores[writer].put_new("k", bytes([writer]) * (5 * MB + 1))
        except AlreadyExistsError:
            return None
        return writer

    with ThreadPoolExecutor(6) as pool:
        won = [winner for winner in pool.map(create, range(6)) if winner is not None]
    assert len(won) == 1 and set(stores[0].get("k")) == {won[0]} and uploads(stores[0]) == []


@pytest.mark.parametrize("stored", [True, False])
def test_if_the_answer_to_the_last_step_was_lost_the_object_is_looked_for(
    settings: StoreSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    store = opened(settings, request)
    store.put_new("warm", b"x" * (5 * MB + 1))
    complete = store._client.complete_multipart_upload

    def lost(**arguments: Any) -> None:
        if stored:
            complete(**arguments)
        raise botocore.exceptions.ConnectionClosedError(endpoint_url="here")

    monkeypatch.setattr(store._client, "complete_multipart_upload", lost)
    if stored:
        store.put_new("k", b"mine " * MB * 2)
        assert store.get("k") == b"mine " * MB * 2
    else:
        with pytest.raises(StoreUnavailableError):
            store.put_new("k", b"mine " * MB * 2)
        assert not store.exists("k")
    assert uploads(store) == []


def test_a_server_that_ignores_the_condition_for_parts_gets_one_write(
    settings: StoreSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(settings, request)
    complete = store._client.complete_multipart_upload
    monkeypatch.setattr(store._client, "complete_multipart_upload", lambda IfNoneMatch="", **arguments: complete(**arguments))
    store._proof.exclusive_parts = None
    store.put_new("k", b"x" * (5 * MB + 1))
    assert "-" not in store._client.head_object(Bucket="parts", Key=f"{store.prefix}/k")["ETag"]
    with pytest.raises(AlreadyExistsError):
        store.put_new("k", b"y" * (5 * MB + 1))
    assert list(store.list()) == ["k"]


def test_parts_become_larger_if_there_would_be_too_many(
    settings: StoreSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_multipart, "MOST_PARTS", 2)
    client = boto3.session.Session().client(
        "s3", endpoint_url=settings.endpoint_url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    MultipartCreate(client, "parts", "many", 5 * MB).send(io.BytesIO(b"x" * 14 * MB), {}, {})
    assert client.head_object(Bucket="parts", Key="many")["ETag"].strip('"').endswith("-2")


def test_an_object_that_is_replaced_while_it_is_read_is_read_again(
    settings: StoreSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(settings, request)
    store.put("k", b"a" * 3 * MB)
    get, asked = store._client.get_object, []

    class Breaking:
        def __init__(self, body: Any) -> None:
            self.body = body

        def iter_chunks(self, size: int) -> Iterator[bytes]:
            yield next(self.body.iter_chunks(size))
            store.put("k", b"b" * 2 * MB)
            raise botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2)

    def once(**arguments: Any) -> Any:
        asked.append(arguments.get("Range"))
        found = get(**arguments)
        return {**found, "Body": Breaking(found["Body"])} if len(asked) == 1 else found

    monkeypatch.setattr(store._client, "get_object", once)
    assert store.get("k") == b"b" * 2 * MB
    assert asked == [None, f"bytes={MB}-", None]
