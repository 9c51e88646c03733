"""How S3 fails, shown by small servers that speak just enough of its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.errors import (
    AlreadyExistsError,
    SettingsError,
    StoreDeniedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from configs.settings import StoreSettings
from infra.storage import S3Store, s3
from tests.doubles.s3.small_s3 import SmallS3, small_s3


@pytest.fixture
def server() -> Iterator[SmallS3]:
    with small_s3() as running:
        yield running


def connect(server: SmallS3, **changes: object) -> S3Store:
    values = {"url": "s3://b", "endpoint_url": server.url, "access_key_id": "id", "timeout_s": 60}
    settings = StoreSettings.model_validate(
        {**values, "secret_access_key": "very-secret", "attempts": 2, "slow_down_s": 0, **changes}
    )
    return S3Store("b", "p", settings)


def test_a_server_that_ignores_the_condition_is_refused_before_anything_is_written(server: SmallS3) -> None:
    server.conditional = False
    with pytest.raises(StoreError, match="ignores If-None-Match"):
        connect(server).put_new("k", b"x")
    assert server.objects == {}


@pytest.mark.parametrize(
    ("status", "code", "error", "said"),
    [
        (403, "InvalidAccessKeyId", StoreDeniedError, r"store\.access_key_id"),
        (403, "AccessDenied", StoreDeniedError, "bucket's policy"),
        (404, "NoSuchBucket", StoreDeniedError, "bucket b does not exist"),
        (403, "UserSuspended", StoreDeniedError, r"store\.access_key_id"),
        (400, "ExpiredToken", StoreDeniedError, "have expired.*Renew store.access_key_id"),
        (400, "AuthorizationHeaderMalformed", StoreDeniedError, r"not in the region us-east-1.*Set store\.region"),
        (301, "PermanentRedirect", StoreDeniedError, r"Set store\.region"),
        (403, "RequestTimeTooSkewed", StoreDeniedError, "Set the clock"),
        (507, "InsufficientStorage", StoreFullError, "full"),
        (503, "SlowDown", StoreUnavailableError, "run again"),
        (400, "Strange", StoreError, "Strange"),
        (403, "<Error><Code>AccessDenied</Code><Message/></Error>", StoreDeniedError, r"store\.access_key_id"),  # Ceph's form
    ],
)
def test_each_refusal_says_what_to_do_and_no_secret(
    server: SmallS3, status: int, code: str, error: type[Exception], said: str
) -> None:
    server.reply = lambda path, writes: (status, code)
    store = connect(server)
    for call in (
        lambda: store.put("k", b"x"),
        lambda: store.get("k"),
        lambda: store.put_new("k", b"x"),
        lambda: list(store.list()),
    ):
        with pytest.raises(error, match=said) as caught:
            call()
        assert "very-secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named() -> None:
    values = {"url": "s3://b", "endpoint_url": "http://127.0.0.1:9", "access_key_id": "a", "secret_access_key": "b"}
    settings = StoreSettings.model_validate({**values, "attempts": 1})
    with pytest.raises(StoreUnavailableError, match=r"http://127\.0\.0\.1:9 does not answer"):
        S3Store("b", "", settings).exists("k")


def test_missing_credentials_are_asked_for(server: SmallS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreDeniedError, match="AWS_ACCESS_KEY_ID"):
        connect(server, access_key_id=None, secret_access_key=None).put("k", b"x")


@pytest.mark.parametrize("header", ["x-amz-meta-writer", "X-Amz-Meta-Writer"])
def test_a_create_whose_answer_was_lost_does_not_conflict_with_itself(server: SmallS3, header: str) -> None:
    server.writer_header = header
    store = connect(server)
    store.put_new("warm", b"")
    server.stores_before_reply = True
    answers = iter([(500, "InternalError")])
    server.reply = lambda path, writes: next(answers, None)
    store.put_new("k", b"mine")
    assert server.objects["/b/p/k"][0] == b"mine"


def test_a_create_that_another_won_while_the_answer_was_lost_is_a_conflict(server: SmallS3) -> None:
    store = connect(server)
    store.put_new("warm", b"")
    server.objects["/b/p/k"] = (b"mine", "of the same content, by another")
    answers = iter([(500, "InternalError")])
    server.reply = lambda path, writes: next(answers, None)
    with pytest.raises(AlreadyExistsError):
        store.put_new("k", b"mine")
    assert server.objects["/b/p/k"][1] == "of the same content, by another"


@pytest.mark.parametrize("stored", [True, False])
def test_a_create_that_failed_to_the_last_attempt_succeeds_only_if_it_was_stored(server: SmallS3, stored: bool) -> None:
    store = connect(server)
    store.put_new("warm", b"")
    server.stores_before_reply = stored
    server.reply = lambda path, writes: (500, "InternalError")
    if stored:
        store.put_new("k", b"mine")
        assert server.objects["/b/p/k"][0] == b"mine"
    else:
        with pytest.raises(StoreUnavailableError, match="InternalError"):
            store.put_new("k", b"mine")


def test_a_body_that_breaks_off_is_read_again(server: SmallS3, tmp_path: Path) -> None:
    store, content = connect(server, attempts=3), bytes(range(256)) * 10_000
    store.put("k", content)
    server.whole_reads_after = 2
    assert store.get("k") == content
    server.whole_reads_after = 2
    store.fetch("k", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def test_if_a_server_sends_the_whole_object_instead_of_the_rest_it_is_read_from_the_beginning(server: SmallS3) -> None:
    store, content = connect(server, attempts=3), bytes(range(256)) * 10_000
    store.put("k", content)
    server.tagged, server.whole_reads_after = True, 2
    assert store.get("k") == content


def test_a_password_in_the_servers_address_is_not_shown(server: SmallS3) -> None:
    values = {"url": "s3://b", "access_key_id": "a", "secret_access_key": "b", "attempts": 1}
    settings = StoreSettings.model_validate(values).model_copy(update={"endpoint_url": "http://me:pw-7731@127.0.0.1:9"})
    with pytest.raises(StoreUnavailableError, match=r"does not answer") as caught:
        S3Store("b", "", settings).exists("k")
    assert "pw-7731" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"cannot be opened") as refused:
        S3Store("b", "", settings.model_copy(update={"endpoint_url": "http://me:pw-7731@no host"}))
    assert "pw-7731" not in str(refused.value)


def test_a_body_that_always_breaks_off_leaves_no_file(server: SmallS3, tmp_path: Path) -> None:
    store = connect(server, attempts=2)
    store.put("k", b"new content")
    (tmp_path / "copy").write_bytes(b"old")
    server.whole_reads_after = 100
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        store.fetch("k", tmp_path / "copy")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("copy", b"old")]


def test_a_bucket_that_is_missing_is_not_taken_for_a_missing_object(server: SmallS3) -> None:
    assert not connect(server).exists("k")
    settings = StoreSettings.model_validate(
        {
            "url": "s3://c",
            "endpoint_url": server.url,
            "access_key_id": "a",
            "secret_access_key": "b",
        }
    )
    with pytest.raises(StoreDeniedError, match="bucket c does not exist"):
        S3Store("c", "", settings).exists("k")


def test_markers_of_empty_folders_are_not_listed_as_objects(server: SmallS3) -> None:
    for key in ("p/", "p/a/", "p/a/b", "p/.tmp/probe-0", "p/c"):
        server.objects[f"/b/{key}"] = (b"", "")
    assert list(connect(server).list()) == ["a/b", "c"]


@pytest.mark.parametrize(
    ("changes", "bucket", "said"),
    [
        ({"endpoint_url": "localhost:9000"}, "b", "endpoint_url"),
        ({"secret_access_key": None}, "b", "both or neither"),
        ({}, "Not_A_Bucket/", r"store\.url"),
    ],
)
def test_the_message_names_settings_that_are_invalid_for_a_client(changes: dict[str, object], bucket: str, said: str) -> None:
    values = {"url": f"s3://{bucket}", "endpoint_url": "http://127.0.0.1:9", "access_key_id": "id", "secret_access_key": "x"}
    with pytest.raises(SettingsError, match=said):
        S3Store(bucket, "", StoreSettings.model_validate({**values, **changes})).put("k", b"x")


def test_a_contested_create_is_repeated(server: SmallS3) -> None:
    store = connect(server, attempts=3)
    store.put_new("warm", b"")
    answers = iter([(409, "ConditionalRequestConflict")])
    server.reply = lambda path, writes: next(answers, None)
    store.put_new("k", b"mine")
    server.reply = lambda path, writes: (409, "ConditionalRequestConflict")
    with pytest.raises(StoreUnavailableError, match="stayed contested in 3 attempts"):
        store.put_new("k2", b"mine")


def test_a_file_too_large_for_one_write_is_refused(server: SmallS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MAX_OBJECT", 10)
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(StoreError, match="5 GiB"):
        connect(server).put_new("k", tmp_path / "big")
