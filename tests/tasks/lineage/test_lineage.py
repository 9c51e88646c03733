"""The events of a run follow OpenLineage's schema, name what it read and wrote, and never fail it."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from configs.settings import DataSettings, RetrainSettings, StoreSettings
from infra.registry import ModelRef, Promotion
from tasks.datasets import DatasetRef
from tasks.lineage import Item, Touched, events, follow, touched_by

needs_client = pytest.mark.skipif(find_spec("openlineage") is None, reason="openlineage-python is not installed")
LOG = logging.getLogger("lineage-test")
DATASET = DatasetRef("films", "ab12-cd34", "datasets/films/ab12-cd34", "file:x", 10, 2, 3, 1, 2, parents=("films/0000-1111",))
MODEL = ModelRef("movie-ranker", "20250101T000000Z-ab", "p", "u", "d", "c", "ss4rec", "films/ab12-cd34", "loo", "passed", {})
PROMOTION = Promotion(3, "movie-ranker", MODEL.version, None, "rollback", "why", "me", "2025-01-01T00:00:00+00:00", "m", None)
FACET = {
    "type": "object",
    "required": ["_producer", "_schemaURL"],
    "properties": {"_producer": {"type": "string", "format": "uri"}, "_schemaURL": {"type": "string", "format": "uri"}},
}
FACETS = {"type": "object", "additionalProperties": FACET}
NAMED = {"namespace": {"type": "string", "minLength": 1}, "name": {"type": "string", "minLength": 1}, "facets": FACETS}
TOUCHED = {"type": "array", "items": {"type": "object", "required": ["namespace", "name"], "properties": NAMED}}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["eventTime", "eventType", "run", "job", "producer", "schemaURL"],
    "properties": {
        "eventType": {"enum": ["START", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {"type": "string", "format": "uri"},
        "run": {
            "type": "object",
            "required": ["runId"],
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": FACETS},
        },
        "job": {"type": "object", "required": ["namespace", "name"], "properties": NAMED},
        "inputs": TOUCHED,
        "outputs": TOUCHED,
    },
}
"""What OpenLineage's schema of a run event asks for (https://openlineage.io/spec/2-0-2/OpenLineage.json), in our words."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without a receiver, and without the failures of earlier tests."""
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(events, "_given_up", set())


@contextmanager
def receiver(status: int = 200) -> Iterator[SimpleNamespace]:
    """Run a receiver of events until the end of the block."""
    found = SimpleNamespace(events=[], keys=[], address="")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/api/v1/lineage"
            found.events.append(json.loads(content))
            found.keys.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def valid(event: dict[str, Any]) -> dict[str, Any]:
    Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(event)
    return event


def run_once(store: str, started: Touched = Touched(), ended: Touched = Touched()) -> str:  # noqa: B008
    run = str(uuid4())
    with follow(run, "retrain.movie-ranker", StoreSettings(url=store), started, LOG) as followed:
        followed.touched = ended
    return run


@needs_client
def test_a_run_tells_a_receiver_its_start_and_its_end_with_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as found:
        monkeypatch.setenv("OPENLINEAGE_URL", found.address)
        monkeypatch.setenv("OPENLINEAGE_API_KEY", "hush-1234")
        monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "films")
        run = run_once("s3://bucket/production", ended=touched_by("train", {}, MODEL))
    first, last = (valid(event) for event in found.events)
    assert [first["eventType"], last["eventType"]] == ["START", "COMPLETE"]
    assert first["run"]["runId"] == last["run"]["runId"] == run
    assert first["job"]["namespace"] == "films" and first["job"]["name"] == "retrain.movie-ranker"
    (read,), (written,) = last["inputs"], last["outputs"]
    assert (read["namespace"], read["name"]) == ("s3://bucket", "production/datasets/films")
    assert read["facets"]["version"]["datasetVersion"] == "ab12-cd34"
    assert written["name"] == "production/models/movie-ranker"
    assert written["facets"]["version"]["datasetVersion"] == MODEL.version
    assert set(found.keys) == {"Bearer hush-1234"}


@needs_client
def test_a_run_within_another_names_it_and_a_failed_one_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lineage" / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE_URL", f"file:{file}")
    store, outer, inner = StoreSettings(url=f"file:{tmp_path}/store"), str(uuid4()), str(uuid4())
    with pytest.raises(KeyError), follow(outer, "retrain.m", store, Touched(), LOG):
        with follow(inner, "etl.films", store, Touched(), LOG) as followed:
            followed.failure = "No row of the file is good."
        raise KeyError("the private message of an error")
    events_of = [valid(json.loads(line)) for line in file.read_text().splitlines()]
    assert [(event["job"]["name"], event["eventType"]) for event in events_of] == [
        ("retrain.m", "START"), ("etl.films", "START"), ("etl.films", "FAIL"), ("retrain.m", "FAIL"),
    ]  # fmt: skip
    assert events_of[1]["run"]["facets"]["parent"]["run"]["runId"] == outer
    assert events_of[2]["run"]["facets"]["errorMessage"]["message"] == "No row of the file is good."
    assert events_of[3]["run"]["facets"]["errorMessage"]["message"] == "KeyError"


@needs_client
def test_an_interrupted_run_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", f"file:{tmp_path}/events.jsonl")
    with pytest.raises(KeyboardInterrupt), follow(str(uuid4()), "etl.films", StoreSettings(), Touched(), LOG):
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])["eventType"] == "ABORT"


@needs_client
@pytest.mark.parametrize("fault", ["refuses", "absent"])
def test_a_receiver_that_fails_is_warned_of_once_and_fails_no_run(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(status=500) as found:
        address = found.address if fault == "refuses" else "http://me:hush@127.0.0.1:9"
        monkeypatch.setenv("OPENLINEAGE_URL", address)
        run_once("file:store")
        run_once("file:store")
    said = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert len(said) == 1 and "cannot be sent" in said[0] and "hush" not in said[0]
    assert len(found.events) <= 1, "it was asked again"


def test_without_the_client_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openlineage.client", None)
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    run_once("file:store")
    (said,) = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert "openlineage-python is not installed" in said


@pytest.mark.parametrize(
    ("flow", "parameters", "result", "read", "written"),
    [
        ("etl", {"data": DataSettings(local_path="/in/events.csv")}, DATASET, {"/in/events.csv", "datasets/films"}, {"datasets/films"}),
        ("train", {"settings": RetrainSettings(), "dataset": "films/ab12-cd34"}, MODEL, {"datasets/films"}, {"models/movie-ranker"}),
        ("rollback", {}, PROMOTION, {"models/movie-ranker"}, {"promotions/movie-ranker"}),
        ("retrain", {}, SimpleNamespace(dataset=DATASET, version=MODEL, promoted=True), {"datasets/films"}, {"models/movie-ranker", "promotions/movie-ranker"}),
        ("retrain", {}, SimpleNamespace(dataset=DATASET, version=MODEL, promoted=False), {"datasets/films"}, {"models/movie-ranker"}),
        ("housekeeping", {}, "said", set(), set()),
    ],
)  # fmt: skip
def test_a_flow_touches_what_its_result_names(
    flow: str, parameters: dict[str, Any], result: Any, read: set[str], written: set[str]
) -> None:
    found = touched_by(flow, parameters, result)
    assert ({item.name for item in found.inputs}, {item.name for item in found.outputs}) == (read, written)


def test_two_versions_of_one_dataset_are_two_items() -> None:
    found = touched_by("etl", {}, replace(DATASET, parents=("films/1", "films/2", "films/2")))
    assert [item.version for item in found.inputs] == ["1", "2"] and found.outputs == (Item("datasets/films", "ab12-cd34"),)
