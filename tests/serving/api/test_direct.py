"""The direct way of the busy routes answers what the framework would answer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Scope

from configs.errors import OverloadedError
from infra.storage.local import LocalStore
from serving.api.app import ServingApp, create_app
from serving.api.direct import DirectRoutes
from tests.serving.versions import START, draw, promote_version, publish, settings_of

JSON = (b"content-type", b"application/json")
ASK, TELL = "/v1/recommendations", "/v1/events"
PLAIN: dict[str, bytes] = {
    "nobody": b"{}",
    "a user": b'{"user_id": 7, "k": 3}',
    "a history": b'{"history": [{"item_id": 105, "time": %d}], "k": 3, "time": %d}' % (START, START + 60),
    "filters": b'{"user_id": 7, "genres": ["Drama"], "year_from": 1950, "exclude": [101], "explain": true, "k": 2}',
}
REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b'{"k": ',
    "another value": b"[1, 2]",
    "an unknown field": b'{"kk": 3}',
    "a wrong type": b'{"k": "three"}',
    "too many": b'{"k": 100000}',
    "an unknown version": b'{"version": "20200101T000000Z"}',
    "years in the wrong order": b'{"year_from": 2000, "year_to": 1990}',
    "an id of another type": b'{"user_id": "u-42"}',
    "bytes that are not text": b'{"user_id": "\xff"}',
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingApp]:
    root = tmp_path_factory.mktemp("serving")
    draw(root / "v1", 1)
    promote_version(LocalStore(root / "store"), publish(LocalStore(root / "store"), root / "v1").version)
    found = create_app(settings_of(root, batch={"cache_s": 0}, limits={"body_bytes": 20_000}))
    with TestClient(found):
        yield found


def ask(app: ASGIApp, owner: ServingApp, path: str, pieces: list[bytes], headers: list[tuple[bytes, bytes]]) -> tuple[Any, ...]:
    """Send a request and return the status, the headers and the body of the answer."""
    waiting: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)} for number, piece in enumerate(pieces, start=1)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": "",
        "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "state": {"request_id": "r"}, "app": owner,
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], sorted(sent[0]["headers"]), re.sub(rb'"time":\d+', b'"time":0', body), scope["route"].path_format


def layers(app: ServingApp) -> tuple[DirectRoutes, ASGIApp]:
    """Return the direct way, and the framework's layers behind it."""
    direct = app.middleware_stack._app  # type: ignore[union-attr]
    assert isinstance(direct, DirectRoutes)
    return direct, direct._stack


@pytest.mark.parametrize("name", [*PLAIN, *REFUSED])
@pytest.mark.parametrize(
    "headers",
    [[JSON], [(b"content-type", b"application/json; charset=utf-8")], [(b"content-type", b"text/plain")], []],
    ids=["json", "charset", "text", "no type"],
)
def test_a_question_is_answered_as_by_the_framework(name: str, headers: list[tuple[bytes, bytes]], app: ServingApp) -> None:
    body = (PLAIN | REFUSED)[name]
    direct, framework = layers(app)
    found = ask(direct, app, ASK, [body], headers)
    assert found == ask(framework, app, ASK, [body], headers)
    assert found[0] == 200 if name in PLAIN and headers and b"json" in headers[0][1] else found[0] >= 400


@pytest.mark.parametrize("size", [100, 5000, 30_000], ids=["small", "large", "too large"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_body_of_any_size_and_in_pieces_is_answered_as_by_the_framework(size: int, pieces: int, app: ServingApp) -> None:
    body = json.dumps({"k": 3, "exclude": [101] * (size // 6)}).encode()
    cut = [body] if pieces == 1 else [body[:50], body[50:]]
    direct, framework = layers(app)
    assert ask(direct, app, ASK, cut, [JSON]) == ask(framework, app, ASK, cut, [JSON])


def test_events_are_answered_as_by_the_framework(app: ServingApp) -> None:
    direct, framework = layers(app)
    for number, body in enumerate(
        [b'{"events": [{"user_id": %d, "item_id": 105, "time": 1600000000}]}', b'{"events": []}', b"{}"]
    ):
        mine, theirs = (
            ask(way, app, TELL, [body % user if b"%d" in body else body], [JSON]) for way, user in ((direct, 1), (framework, 2))
        )
        assert mine == theirs and mine[0] == (200 if number == 0 else 422)


def test_an_error_on_the_way_is_answered_as_by_the_framework(app: ServingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    direct, framework = layers(app)
    for error in (OverloadedError("Too many wait."), ZeroDivisionError("a defect")):

        async def fail(job: object, error: Exception = error) -> object:
            raise error

        monkeypatch.setattr(app.state.worker, "recommend", fail)
        found: list[object] = []
        for way in (direct, framework):
            try:
                found.append(ask(way, app, ASK, [b"{}"], [JSON]))
            except ZeroDivisionError as raised:  # the server logs it; the client has its answer
                found.append(str(raised))
        assert found[0] == found[1]


def test_a_plain_question_does_not_enter_the_framework(app: ServingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    direct, _ = layers(app)

    async def unreachable(*_: object) -> None:
        raise AssertionError("the framework was asked")

    monkeypatch.setattr(direct, "_stack", unreachable)
    assert ask(direct, app, ASK, [PLAIN["a user"]], [JSON])[0] == 200
