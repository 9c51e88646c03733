"""The client of an S3 server: address, credentials, checksums, encryption and patience."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import botocore.endpoint
import pytest
from pydantic import ValidationError

from configs.errors import StoreDeniedError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.storage import S3Store
from infra.storage.s3_connection import connect as client_of
from tests.doubles.s3.small_s3 import Reply, SmallS3, small_s3

MB = 1 << 20


@pytest.fixture
def server() -> Iterator[SmallS3]:
    with small_s3() as running:
        yield running


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a folder with a credentials file. boto3 finds no other source of credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    write_key(tmp_path, "FIRST")
    return tmp_path


def write_key(folder: Path, key: str) -> None:
    text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {key}-secret\n"
    (folder / "credentials").write_text(text, encoding="utf-8")


def opened(server: SmallS3, **changes: Any) -> S3Store:
    values = {"url": "s3://b/p", "endpoint_url": server.url, "attempts": 2, "timeout_s": 60, **changes}
    store = S3Store("b", "p", StoreSettings.model_validate(values))
    store._proof.exclusive = True
    return store


def signed_with(server: SmallS3) -> list[str]:
    return [headers["Authorization"].partition("Credential=")[2].partition("/")[0] for _, _, headers in server.seen]


# Credentials


def test_a_key_that_is_rotated_in_its_file_is_used_at_the_next_request(server: SmallS3, aws: Path) -> None:
    store = opened(server)
    store.put("k", b"x")
    write_key(aws, "SECOND")
    store.get("k")
    list(store.list())
    assert signed_with(server) == ["FIRST", "SECOND", "SECOND"]


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_refused_key_is_looked_up_again_once(server: SmallS3, aws: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(server)
    store.put("k", b"x")
    server.refuse = lambda method, path, headers: (400, code) if "FIRST" in headers["Authorization"] else None
    monkeypatch.setattr("infra.storage.s3_credentials._stamp_of", lambda path: None)  # as if no file had changed
    store._client._request_signer._credentials._stamp = [None, None]
    with pytest.raises(StoreDeniedError):
        store.put("k", b"y")
    assert len(server.seen) == 3, "there was not exactly one further try"
    write_key(aws, "SECOND")
    store.put("k", b"z")
    assert signed_with(server)[3:] == ["FIRST", "SECOND"] and server.objects["/b/p/k"][0] == b"z"


def test_a_head_that_is_refused_without_a_code_is_signed_again(
    server: SmallS3, aws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(server)
    store.put("k", b"x")
    server.refuse = lambda method, path, headers: (403, "") if "FIRST" in headers["Authorization"] else None
    monkeypatch.setattr("infra.storage.s3_credentials._stamp_of", lambda path: None)
    store._client._request_signer._credentials._stamp = [None, None]
    write_key(aws, "SECOND")
    assert store.exists("k")


def test_a_file_that_is_just_being_written_leaves_the_key_in_use(server: SmallS3, aws: Path) -> None:
    store = opened(server)
    store.put("k", b"x")
    for half in ("", "[default", "[default]\naws_access_key_id = SECOND\n"):
        (aws / "credentials").write_text(half, encoding="utf-8")
        store.get("k")
    (aws / "credentials").unlink()
    store.get("k")
    write_key(aws, "THIRD")
    store.get("k")
    assert signed_with(server) == ["FIRST"] * 5 + ["THIRD"]


def test_keys_that_are_added_later_are_found(server: SmallS3, aws: Path) -> None:
    (aws / "credentials").unlink()
    store = opened(server)
    with pytest.raises(StoreDeniedError, match="No S3 credentials were found"):
        store.put("k", b"x")
    write_key(aws, "LATER")
    store.put("k", b"x")
    assert signed_with(server) == ["LATER"]


# Checksums and addresses


def knows_no_checksums(method: str, path: str, headers: Message) -> Reply | None:
    new = ("x-amz-sdk-checksum", "x-amz-checksum", "x-amz-trailer")
    return (400, "InvalidArgument") if any(name.lower().startswith(new) for name in headers) else None


@pytest.mark.parametrize("where", ["store.endpoint_url", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "the configuration file"])
def test_a_server_other_than_aws_gets_no_unknown_checksums_however_it_is_configured(
    server: SmallS3, aws: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    server.refuse = knows_no_checksums
    if where.startswith("AWS"):
        monkeypatch.setenv(where, server.url)
    elif where == "the configuration file":
        (aws / "config").write_text(f"[default]\nendpoint_url = {server.url}\n", encoding="utf-8")
    store = opened(server, endpoint_url=server.url if where.startswith("store") else None)
    store.put_new("k", b"x")
    store.put("large", b"x" * (33 * MB))
    assert server.objects["/b/p/k"][0] == b"x", "the address of another server has the bucket in its path"
    server.refuse = lambda method, path, headers: (403, "AccessDenied")
    with pytest.raises(StoreDeniedError, match=server.url):
        store.get("k")


@pytest.mark.parametrize(("value", "sent"), [("when_supported", True), ("when_required", False)])
@pytest.mark.parametrize("by", ["variable", "file"])
def test_boto3s_own_setting_for_checksums_is_followed(
    server: SmallS3, aws: Path, monkeypatch: pytest.MonkeyPatch, value: str, sent: bool, by: str
) -> None:
    if by == "variable":
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", value)
    else:
        (aws / "config").write_text(f"[default]\nrequest_checksum_calculation = {value}\n", encoding="utf-8")
    opened(server).put("k", b"x")
    assert (knows_no_checksums(*server.seen[-1]) is not None) == sent


@pytest.mark.parametrize(
    ("changes", "url", "checksums"),
    [
        ({}, "https://films.s3.eu-central-1.amazonaws.com/k", "when_supported"),
        ({"addressing": "path"}, "https://s3.eu-central-1.amazonaws.com/films/k", "when_supported"),
        (
            {"endpoint_url": "https://s3.eu-central-1.amazonaws.com"},
            "https://s3.eu-central-1.amazonaws.com/films/k",
            "when_supported",
        ),
        ({"endpoint_url": "https://s3.example.org"}, "https://s3.example.org/films/k", "when_required"),
        ({"endpoint_url": "https://s3.example.org", "addressing": "virtual"}, "https://films.s3.example.org/k", "when_required"),
    ],
)
def test_the_address_of_an_object_follows_from_the_settings(changes: dict[str, str], url: str, checksums: str) -> None:
    client = client_of(StoreSettings.model_validate({"url": "s3://b", "region": "eu-central-1", **changes}))
    asked: list[str] = []

    def note(request: Any, **_: Any) -> None:
        asked.append(request.url)
        raise ConnectionAbortedError

    client.meta.events.register("before-send.s3", note)
    with pytest.raises(ConnectionAbortedError):
        client.delete_object(Bucket="films", Key="k")
    assert asked == [url]
    assert client.meta.config.request_checksum_calculation == checksums


# Encryption


def encryption_sent(server: SmallS3) -> list[tuple[str | None, str | None, str | None]]:
    names = ("", "-aws-kms-key-id", "-bucket-key-enabled")
    return [
        tuple(headers.get(f"x-amz-server-side-encryption{name}") for name in names)  # type: ignore[misc]
        for method, path, headers in server.seen
        if method in ("PUT", "POST") and "partNumber" not in path and "uploadId" not in path
    ]


def test_every_way_to_write_asks_for_the_encryption(server: SmallS3) -> None:
    store = opened(server, encryption="aws:kms", kms_key_id="key-7", kms_bucket_key=True, part_mb=5)
    store.put("k", b"x")
    store.put_new("k1", b"x")
    store.claim("k2", b"x")
    store._proof.exclusive = False
    store.put_new("k3", b"x")
    server.refuse = lambda method, path, headers: (400, "Seen") if method == "POST" else None
    store._proof.exclusive_parts = True
    for write in (store.put, store.put_new):  # the first request of an upload in parts asks for it
        with pytest.raises(Exception, match="Seen"):
            write("large", b"x" * (5 * MB + 1))
    sent = encryption_sent(server)
    assert len(sent) > 10 and sum(method == "POST" for method, _, _ in server.seen) == 2
    assert set(sent) == {("aws:kms", "key-7", "true")}


def test_no_encryption_is_requested_if_none_is_set(server: SmallS3) -> None:
    opened(server).put("k", b"x")
    assert encryption_sent(server) == [(None, None, None)]


@pytest.mark.parametrize(("kind", "demanded"), [("AES256", "AES256"), ("aws:kms", "aws:kms")])
def test_the_message_says_that_a_bucket_accepts_only_encrypted_objects(server: SmallS3, kind: str, demanded: str) -> None:
    def refuse(method: str, path: str, headers: Message) -> Reply | None:
        plain = method == "PUT" and headers.get("x-amz-server-side-encryption") != demanded
        return (403, "AccessDenied") if plain else None

    server.refuse = refuse
    store = opened(server)
    for write in (store.put, store.put_new, store.claim):
        with pytest.raises(StoreDeniedError, match=rf"accepts encrypted objects only\. Set store\.encryption to {kind}"):
            write("k", b"x")
    opened(server, encryption=kind).put_new("k", b"x")
    assert set(server.objects) == {"/b/p/k"}


def test_the_message_about_refused_credentials_does_not_speak_of_encryption(server: SmallS3) -> None:
    server.refuse = lambda method, path, headers: (403, "AccessDenied") if method == "PUT" else None
    with pytest.raises(StoreDeniedError, match="refuses these credentials"):
        opened(server).put("k", b"x")


@pytest.mark.parametrize(
    "changes",
    [
        {"kms_key_id": "k"},
        {"encryption": "AES256", "kms_key_id": "k"},
        {"encryption": "aws:kms:dsse", "kms_bucket_key": True},
        {"encryption": "none"},
        {"addressing": "dns"},
        {"slow_down_s": -1},
    ],
)
def test_encryption_settings_that_contradict_each_other_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StoreSettings.model_validate(changes)


# Patience


class Clock:
    """Stands in for the time that passes while the client waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.pauses = time.monotonic(), list[float]()
        monkeypatch.setattr("infra.storage.s3_connection.time.monotonic", lambda: self.now)
        monkeypatch.setattr(botocore.endpoint.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (429, "TooManyRequests"), (429, "")])
def test_a_server_that_asks_for_fewer_requests_is_obeyed_for_two_minutes(
    server: SmallS3, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    store, clock = opened(server), Clock(monkeypatch)
    began = clock.now
    server.refuse = lambda method, path, headers: (status, code) if clock.now < began + 90 else None
    store.put("k", b"x")
    assert 90 <= clock.now - began <= 120 and len(clock.pauses) < 15, "it asked too often"
    server.refuse = lambda method, path, headers: (status, code)
    began = clock.now
    with pytest.raises(StoreUnavailableError):
        store.put("k", b"x")
    assert 80 <= clock.now - began <= 125, "the patience has no bound"


def test_other_failures_end_after_the_attempts(server: SmallS3, monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = opened(server), Clock(monkeypatch)
    server.refuse = lambda method, path, headers: (503, "ServiceUnavailable")
    with pytest.raises(StoreUnavailableError):
        store.put("k", b"x")
    assert len(server.seen) == 2 and sum(clock.pauses) < 5
