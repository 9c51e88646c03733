"""How S3 fails, told by small servers that speak just enough of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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

Reply = tuple[int, str]  # status, error code


class Server(ThreadingHTTPServer):
    """Keeps objects; `reply` may answer a write with an error instead, before or after it was stored."""

    objects: dict[str, tuple[bytes, str]]  # path: content, writer
    reply: Callable[[str, int], Reply | None]
    whole_reads_after = 0  # bodies of so many GETs break off half-way
    stores_before_reply = False
    conditional = True
    tagged = False  # objects have an ETag; the wish for a range of one is ignored nevertheless
    writes = 0


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.writes += 1
        reply = None if "/.tmp/probe-" in self.path else server.reply(self.path, server.writes)
        taken = self.headers.get("If-None-Match") == "*" and server.conditional and self.path in server.objects
        if taken and reply is None:
            reply = (412, "PreconditionFailed")
        if reply is None or (server.stores_before_reply and not taken):
            server.objects[self.path] = (body, self.headers.get("x-amz-meta-writer", ""))
        self._answer(*(reply or (200, "")))

    def do_HEAD(self) -> None:
        found = (b"", "") if self.path == "/b" else self.server.objects.get(self.path)
        self.send_response(200 if found else 404)
        if found:
            self.send_header("x-amz-meta-writer", found[1])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_DELETE(self) -> None:
        self.server.objects.pop(self.path, None)
        self._answer(204, "")

    def do_GET(self) -> None:
        reply, found = self.server.reply(self.path, 0), self.server.objects.get(self.path)
        if reply or not found:
            self._answer(*(reply or (404, "NoSuchKey")))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(found[0])))
        if self.server.tagged:
            self.send_header("ETag", '"tag"')
        self.end_headers()
        broken = self.server.whole_reads_after > 0
        self.server.whole_reads_after -= 1
        self.wfile.write(found[0][: len(found[0]) // 2] if broken else found[0])
        self.close_connection = broken

    def _answer(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.objects, running.reply = {}, lambda path, writes: None
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def connect(server: Server, **changes: object) -> S3Store:
    values = {"url": "s3://b", "endpoint_url": f"http://127.0.0.1:{server.server_port}", "access_key_id": "id", "timeout_s": 5}
    settings = StoreSettings.model_validate({**values, "secret_access_key": "very-secret", "attempts": 2, **changes})
    return S3Store("b", "p", settings)


def test_a_server_that_ignores_the_condition_is_refused_before_anything_is_written(server: Server) -> None:
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
    ],
)
def test_each_refusal_says_what_to_do_and_no_secret(
    server: Server, status: int, code: str, error: type[Exception], said: str
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


def test_missing_credentials_are_asked_for(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreDeniedError, match="AWS_ACCESS_KEY_ID"):
        connect(server, access_key_id=None, secret_access_key=None).put("k", b"x")


def test_a_create_whose_answer_was_lost_is_no_conflict_with_itself(server: Server) -> None:
    store = connect(server)
    store.put_new("warm", b"")
    server.stores_before_reply = True
    answers = iter([(500, "InternalError")])
    server.reply = lambda path, writes: next(answers, None)
    store.put_new("k", b"mine")
    assert server.objects["/b/p/k"][0] == b"mine"


def test_a_create_that_another_won_while_the_answer_was_lost_is_a_conflict(server: Server) -> None:
    store = connect(server)
    store.put_new("warm", b"")
    server.objects["/b/p/k"] = (b"mine", "of the same content, by another")
    answers = iter([(500, "InternalError")])
    server.reply = lambda path, writes: next(answers, None)
    with pytest.raises(AlreadyExistsError):
        store.put_new("k", b"mine")
    assert server.objects["/b/p/k"][1] == "of the same content, by another"


@pytest.mark.parametrize("stored", [True, False])
def test_a_create_that_failed_to_the_last_attempt_succeeds_only_if_it_was_stored(server: Server, stored: bool) -> None:
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


def test_a_body_that_breaks_off_is_read_again(server: Server, tmp_path: Path) -> None:
    store, content = connect(server, attempts=3), bytes(range(256)) * 10_000
    store.put("k", content)
    server.whole_reads_after = 2
    assert store.get("k") == content
    server.whole_reads_after = 2
    store.fetch("k", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def test_a_server_that_sends_the_whole_where_the_rest_was_asked_for_is_heard_from_the_beginning(server: Server) -> None:
    store, content = connect(server, attempts=3), bytes(range(256)) * 10_000
    store.put("k", content)
    server.tagged, server.whole_reads_after = True, 2
    assert store.get("k") == content


def test_a_password_in_the_servers_address_is_not_told(server: Server) -> None:
    values = {"url": "s3://b", "access_key_id": "a", "secret_access_key": "b", "attempts": 1}
    settings = StoreSettings.model_validate(values).model_copy(update={"endpoint_url": "http://me:pw-7731@127.0.0.1:9"})
    with pytest.raises(StoreUnavailableError, match=r"does not answer") as caught:
        S3Store("b", "", settings).exists("k")
    assert "pw-7731" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"cannot be opened") as refused:
        S3Store("b", "", settings.model_copy(update={"endpoint_url": "http://me:pw-7731@no host"}))
    assert "pw-7731" not in str(refused.value)


def test_a_body_that_always_breaks_off_leaves_no_file(server: Server, tmp_path: Path) -> None:
    store = connect(server, attempts=2)
    store.put("k", b"new content")
    (tmp_path / "copy").write_bytes(b"old")
    server.whole_reads_after = 100
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        store.fetch("k", tmp_path / "copy")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("copy", b"old")]


def test_a_bucket_that_is_missing_is_not_taken_for_a_missing_object(server: Server) -> None:
    assert not connect(server).exists("k")
    settings = StoreSettings.model_validate(
        {
            "url": "s3://c",
            "endpoint_url": f"http://127.0.0.1:{server.server_port}",
            "access_key_id": "a",
            "secret_access_key": "b",
        }
    )
    with pytest.raises(StoreDeniedError, match="bucket c does not exist"):
        S3Store("c", "", settings).exists("k")


def test_marks_of_empty_folders_are_no_objects(server: Server) -> None:
    listed = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in ("p/", "p/a/", "p/a/b", "p/.tmp/probe-0", "p/c"))
    server.objects["/b?list-type=2&prefix=p%2F&encoding-type=url"] = (
        f"<ListBucketResult>{listed}</ListBucketResult>".encode(),
        "",
    )
    assert list(connect(server).list()) == ["a/b", "c"]


@pytest.mark.parametrize(
    ("changes", "bucket", "said"),
    [
        ({"endpoint_url": "localhost:9000"}, "b", "endpoint_url"),
        ({"secret_access_key": None}, "b", "both or neither"),
        ({}, "Not_A_Bucket/", r"store\.url"),
    ],
)
def test_settings_that_make_no_client_are_named(changes: dict[str, object], bucket: str, said: str) -> None:
    values = {"url": f"s3://{bucket}", "endpoint_url": "http://127.0.0.1:9", "access_key_id": "id", "secret_access_key": "x"}
    with pytest.raises(SettingsError, match=said):
        S3Store(bucket, "", StoreSettings.model_validate({**values, **changes})).put("k", b"x")


def test_a_contested_create_is_tried_again(server: Server) -> None:
    store = connect(server, attempts=3)
    store.put_new("warm", b"")
    answers = iter([(409, "ConditionalRequestConflict")])
    server.reply = lambda path, writes: next(answers, None)
    store.put_new("k", b"mine")
    server.reply = lambda path, writes: (409, "ConditionalRequestConflict")
    with pytest.raises(StoreUnavailableError, match="stayed contested in 3 attempts"):
        store.put_new("k2", b"mine")


def test_a_file_too_large_for_one_write_is_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MAX_OBJECT", 10)
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(StoreError, match="5 GiB"):
        connect(server).put_new("k", tmp_path / "big")
