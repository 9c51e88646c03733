"""A body costs a bounded amount of time and memory, whatever it contains."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import Message

from benchmarks.serving.bodies import ROUTES, Body, bodies
from configs.serving import LimitSettings
from infra.storage.local import LocalStore
from serving.api.app import create_app
from serving.api.bodies import AT_ONCE, SMALL, Bodies, IncomingBody, parse
from serving.api.problems import ERRORS
from serving.api.requests import KEYS, EventsRequest, RecommendationRequest
from serving.metrics import Metrics
from tests.serving.versions import draw, promote_version, publish, settings_of

LIMITS = LimitSettings()
FULL = LIMITS.body_bytes
MIB = 1 << 20


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("bodies")
    draw(root / "v1", 1)
    promote_version(LocalStore(root / "store"), publish(LocalStore(root / "store"), root / "v1").version)
    with TestClient(create_app(settings_of(root, batch={"cache_s": 0})), raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, body: Body) -> Any:
    return client.post(body.path, content=body.content, headers={"content-type": "application/json"})


def filled(begin: bytes, unit: bytes, end: bytes, size: int = FULL) -> bytes:
    return begin + unit * ((size - len(begin) - len(end)) // len(unit)) + end


def test_no_body_causes_more_errors_than_an_object_may_have_keys() -> None:
    """Each fault takes kilobytes of memory before it is reported."""
    tried, accepted = 0, 0
    for body in bodies(LimitSettings(body_bytes=4 * SMALL)):
        model: type[BaseModel] = ROUTES[body.path]
        tried += 1
        try:
            model.model_validate(parse(body.content, LIMITS))
            accepted += 1
        except HTTPException as error:
            assert error.status_code in (400, 422) and len(str(error.detail)) < 500, body.name
        except ValidationError as error:
            assert error.error_count() <= KEYS + 20, body.name
    assert tried > 700 and 10 < accepted < tried / 5


TOO_MANY: dict[str, tuple[str, bytes]] = {
    "empty events": ("/v1/events", filled(b'{"events":[', b"{},", b"{}]}")),
    "events that are numbers": ("/v1/events", filled(b'{"events":[', b"1,", b"1]}")),
    "an empty history": ("/v1/recommendations", filled(b'{"history":[', b"{},", b"{}]}")),
    "keys": ("/v1/recommendations", b"{%b}" % b",".join([b'"%06x":0' % n for n in range(FULL // 12)])),
    "keys of an event": ("/v1/events", b'{"events":[{%b}]}' % b",".join([b'"%06x":0' % n for n in range(FULL // 12)])),
    "objects in objects": ("/v1/events", filled(b"[", b'{"":' * 100 + b"0" + b"}" * 100 + b",", b"0]")),
    "brackets": ("/v1/events", b"[" * FULL),
}


@pytest.mark.parametrize("name", TOO_MANY)
def test_refusing_a_body_of_two_mebibytes_takes_little_memory_and_a_short_answer(client: TestClient, name: str) -> None:
    tracemalloc.start()
    try:
        response = post(client, Body(TOO_MANY[name][0], name, TOO_MANY[name][1]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code in (400, 422) and len(response.content) < 4096, response.text
    assert len(response.json()["errors"]) <= ERRORS and peak < 16 * MIB


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"history":[%b]}' % b",".join([b"{}"] * 9000), "history.0.item_id"),
        (b'{"history":[%b]}' % b",".join([b"{}"] * 10_001), "at most 10,000"),
        (b'{"exclude":[%b]}' % b",".join([b'"x"'] * 9000), "exclude.0"),
        (b'{"exclude":[%b]}' % b",".join([b"1"] * 10_001), "10000"),
        (b'{"genres":[%b]}' % b",".join([b"1"] * 5000), "genres.0"),
        (b"{%b}" % b",".join([b'"%d":0' % n for n in range(9000)]), "has 9,000 keys"),
        (b'{"history":[{%b}]}' % b",".join([b'"%d":0' % n for n in range(9000)]), "history.0"),
        (b'{"%b":0}' % (b"a" * MIB), "aaa..."),
        (b'{"version":"%b"}' % (b"a" * MIB), "version"),
        (b'{"genres":["%b"]}' % (b"a" * MIB), "100 characters"),
        (b'{"user_id":%b}' % (b"9" * MIB), "not valid JSON"),
        (b'{"user_id":1.%b}' % (b"3" * MIB), "user_id"),
        (b'{"user_id":NaN}', "not valid JSON"),
        (b'{"user_id":"\xff"}', "not valid JSON"),
        (b'{"history":%b' % (b"[" * 500), "not valid JSON"),
    ],
)
def test_only_one_of_thousands_of_faults_is_reported(client: TestClient, content: bytes, said: str) -> None:
    response = post(client, Body("/v1/recommendations", "", content))
    problem = response.json()
    assert response.status_code in (400, 422) and said in response.text and len(response.content) < 2048, response.text
    assert len(problem["errors"]) <= 1


def test_the_largest_valid_requests_and_texts_full_of_commas_are_parsed() -> None:
    event = b'{"user_id":9223372036854775807,"item_id":9223372036854775807,"time":1700000000,"event_id":"%s"}'
    listed = b",".join([event % (b"[1,2,3,4,5]" * 1)] * LIMITS.events)
    assert len(EventsRequest.model_validate(parse(b'{"events": [%b]}' % listed, LIMITS)).events) == LIMITS.events
    history = b",\n  ".join([b'{"item_id": 105, "time": 1700000000}'] * LIMITS.history)
    films = b", ".join([b"105"] * 10_000)
    asked = b'\xef\xbb\xbf{"history": [%b], "exclude": [%b], "user_id": 3.0}' % (history, films)
    found = RecommendationRequest.model_validate(parse(asked, LIMITS))
    assert len(found.history or ()) == LIMITS.history and len(found.exclude) == 10_000 and found.user_id == 3


def incoming(held: Bodies, sizes: list[int]) -> IncomingBody:
    messages = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in sizes]

    async def receive() -> Message:
        return messages.pop(0)

    return IncomingBody(held, receive)


def test_half_sent_bodies_are_held_up_to_a_limit_and_small_ones_are_not_counted() -> None:
    async def try_it() -> None:
        held = Bodies(LimitSettings(held_mb=2), Metrics().held_bytes)
        large = [incoming(held, [MIB - 100, 50]) for _ in range(2)]
        for body in large:
            await body.receive()
            await body.receive()
        assert held.held == 2 * (MIB - 50)
        small = incoming(held, [SMALL])
        await small.receive()
        further = incoming(held, [SMALL, 1])
        await further.receive()
        with pytest.raises(HTTPException) as refused:
            await further.receive()
        assert refused.value.status_code == 429 and (refused.value.headers or {})["Retry-After"]
        for body in (*large, small, further):
            body.close()
        assert held.held == 0 and held._gauge._value.get() == 0

    asyncio.run(try_it())


def turns(*sizes: int, act: Callable[[list[asyncio.Task[None]]], None] = lambda tasks: None) -> list[int]:
    """Return how many bytes are being processed at the beginning of each turn, in order."""
    held = Bodies(LIMITS, Metrics().held_bytes)
    begun: list[int] = []

    async def work(size: int) -> None:
        await held.turn(size)
        try:
            begun.append(held._working)
            await asyncio.sleep(0)
        finally:
            held.end_turn(size)

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(work(size)) for size in sizes]
        await asyncio.sleep(0)
        act(tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert held._working == 0 and not held._waiting

    asyncio.run(all_of_them())
    return begun


def test_large_bodies_take_turns_in_the_order_of_their_arrival() -> None:
    half = AT_ONCE // 2
    assert turns(half, half, half) == [half, 2 * half, half] or max(turns(half, half, half)) <= AT_ONCE
    assert turns(FULL, FULL, 5000) == [FULL, FULL, 5000]  # the small one does not overtake
    assert max(turns(*[half // 2] * 20)) <= AT_ONCE


def test_a_client_that_leaves_while_it_waits_takes_nobodys_turn() -> None:
    assert turns(FULL, FULL, FULL, act=lambda tasks: tasks[1].cancel() and None) == [FULL, FULL]


def test_the_api_describes_its_limits(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    asked, told = (schemas[name]["properties"] for name in ("RecommendationRequest", "EventsRequest"))
    assert asked["history"]["anyOf"][0]["maxItems"] == LIMITS.history and told["events"]["maxItems"] == LIMITS.events
    assert [asked[name]["maxItems"] for name in ("genres", "exclude", "likes")] == [50, 10_000, 50]
    assert asked["k"] | {"minimum": 1, "maximum": LIMITS.k, "type": "integer"} == asked["k"]
    assert asked["user_id"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}


def test_a_client_that_leaves_while_it_sends_its_body_causes_no_server_error(client: TestClient) -> None:
    sent: list[Message] = []
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": headers, "query_string": b"", "root_path": ""}
    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 400
