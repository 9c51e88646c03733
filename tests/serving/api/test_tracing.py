"""Traces of requests, read by a receiver of OpenTelemetry's own protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from configs.errors import SettingsError
from infra import tracing
from infra.storage.local import LocalStore
from serving.api.app import ServingApp, create_app
from serving.experiments import Exposure
from tests.doubles.observers.otlp import Receiver, otlp_receiver
from tests.doubles.redis_server import RedisServer, redis_server
from tests.serving.versions import START, draw, promote_version, publish, settings_of, wait_until_served

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RECOMMEND = "POST /v1/recommendations"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    draw(folder / "v1", 1)
    promote_version(LocalStore(folder / "store"), publish(LocalStore(folder / "store"), folder / "v1").version)
    return folder


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Trace this process until the end of the test."""
    with otlp_receiver() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.address)
        assert tracing.start_tracing()
        yield found
        tracing.stop_tracing()


def app_of(root: Path, shown: list[Exposure] | None = None, **changes: object) -> ServingApp:
    class Sink:
        dropped = 0

        def write(self, exposure: Exposure) -> None:
            assert shown is not None
            shown.append(exposure)

        def close(self) -> None: ...

    return create_app(settings_of(root, batch={"cache_s": 0}, log_requests=True, **changes), None if shown is None else Sink())


def test_a_request_its_batch_and_its_calls_of_redis_are_one_trace(
    root: Path, redis: RedisServer, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[Exposure] = []
    with TestClient(app_of(root, shown, redis={"url": redis.url, "timeout_s": 30})) as client:
        wait_until_served(client)
        told = client.post("/v1/events", json={"events": [{"user_id": 7, "item_id": 105, "time": START}]})
        assert told.status_code == 200, told.text
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        answer = client.post("/v1/recommendations", json={"user_id": 7, "k": 3}, headers=headers)
        assert answer.status_code == 200
        assert client.get("/healthz").status_code == 200
    (asked,) = receiver.named(RECOMMEND)
    assert (asked.trace, asked.parent, asked.service) == (TRACE, CALLER, "recsys")
    assert asked.attributes["http.route"] == "/v1/recommendations" and asked.attributes["http.response.status_code"] == 200
    assert asked.attributes["recsys.version"] and asked.attributes["recsys.source"]
    (batch,) = (span for span in receiver.named("batch") if span.parent == asked.span)
    calls = [span for span in receiver.named("redis") if span.parent == batch.span]
    assert calls and all(span.trace == TRACE and span.attributes["db.system.name"] == "redis" for span in calls)
    assert not receiver.named("GET /healthz"), "probes would hide what clients ask"
    # One id finds the answer, its exposure, its log line and its span.
    assert answer.headers["x-request-id"] == asked.span == asked.attributes["recsys.request_id"]
    assert [exposure.request for exposure in shown] == [asked.span]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [line["request"] for line in lines if line.get("trace") == TRACE] == [asked.span]


def test_no_span_holds_an_id_of_a_user_or_an_item(root: Path, receiver: Receiver) -> None:
    with TestClient(app_of(root)) as client:
        wait_until_served(client)
        for method, path in (
            ("GET", "/v1/users/90817/events"),
            ("DELETE", "/v1/users/90817"),
            ("GET", "/v1/items/90817/similar?k=5"),
        ):
            client.request(method, path)
        client.post("/v1/recommendations", json={"user_id": 90817})
        client.post("/v1/recommendations", json={"user_id": "90817", "kk": 1})
    asked = [span.attributes for span in receiver.spans if "http.request.method" in span.attributes]
    assert len([span for span in asked if span.get("http.route") != "/v1/models"]) == 5
    assert "90817" not in str(receiver.spans)


def test_requests_that_are_computed_together_share_a_batch_which_links_them(root: Path, receiver: Receiver) -> None:
    with TestClient(app_of(root)) as client, ThreadPoolExecutor(8) as pool:
        wait_until_served(client)
        end = time.monotonic() + 60
        while time.monotonic() < end and not any(span.links for span in receiver.named("batch")):
            list(pool.map(lambda user: client.post("/v1/recommendations", json={"user_id": user}), range(1, 9)))
            tracing._provider.force_flush()
    shared = next(span for span in receiver.named("batch") if span.links)
    asked = {span.span for span in receiver.named(RECOMMEND)}
    assert {shared.parent, *shared.links} <= asked and shared.attributes["recsys.batch.requests"] == 1 + len(shared.links)


def test_a_receiver_that_fails_costs_no_answer(root: Path, receiver: Receiver) -> None:
    receiver.status = 503
    with TestClient(app_of(root)) as client:
        wait_until_served(client)
        assert all(client.post("/v1/recommendations", json={"user_id": user}).status_code == 200 for user in range(20))


def test_without_a_receiver_nothing_is_traced_and_a_request_has_an_id_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in tracing.RECEIVERS:
        monkeypatch.delenv(name, raising=False)
    assert not tracing.start_tracing() and not tracing.tracing_is_on()
    with TestClient(app_of(root)) as client:
        wait_until_served(client)
        found = client.post("/v1/recommendations", json={}, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
        assert len(found.headers["x-request-id"]) == 16


def test_another_protocol_is_refused_in_one_sentence() -> None:
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_PROTOCOL is grpc"):
        tracing.start_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
