"""Whatever fails around a worker, it answers, says in its metrics what is wrong, and recovers when the fault ends."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import httpx
import pyarrow as pa
import pytest
import yaml
from starlette.testclient import TestClient

import serving.watched_file
from configs.errors import StoreDeniedError, StoreError, StoreFullError, StoreUnavailableError, VersionCorruptError
from infra.storage.local import LocalStore
from serving import background
from serving import worker as service
from serving.api.app import create_app
from serving.catalogue import Catalogue
from serving.experiments import exposure_log, log_files
from serving.worker import ServingWorker
from tests.serving.versions import draw, promote_version, publish, settings_of
from tests.volume import volume

DISK = [
    OSError(code, os.strerror(code)) for code in (errno.ENOSPC, errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE, errno.ENOENT)
]
STORE = [StoreUnavailableError("away"), StoreDeniedError("closed"), StoreFullError("full"), StoreError("odd")]


def of_library(base: type[Exception]) -> list[Exception]:
    """Return an instance of each exception class of a library: of all in the nightly tests, else of some."""
    classes, found = [base], []
    while classes:
        made = classes.pop()
        classes += made.__subclasses__()
        found.append(made.__new__(made))
        found[-1].args = (f"an injected {made.__name__}",)
        if issubclass(
            made, (yaml.MarkedYAMLError, yaml.reader.ReaderError)
        ):  # without their own arguments, they cannot be printed
            found.pop()
    return found[:: volume(len(found) // 8 or 1, 1)]


FAILURES = 'recsys_background_failures_total{thread="exposures"}'
BOTOCORE = of_library(botocore.exceptions.BotoCoreError) + of_library(botocore.exceptions.ClientError)
ARROW = [*of_library(pa.ArrowException), pa.ArrowInvalid("damaged"), pa.ArrowNotImplementedError("new")]
HTTPX = of_library(httpx.HTTPError)
YAML = [
    *of_library(yaml.YAMLError),
    yaml.reader.ReaderError("rules", 0, 0, "utf-8", "control character"),
    yaml.scanner.ScannerError(),
]
OTHER = [
    MemoryError(),
    RecursionError(),
    KeyError("ContentLength"),
    TypeError("odd"),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults")
    store = LocalStore(root / "store")
    for seed in (1, 2):
        draw(root / f"v{seed}", seed)
        publish(store, root / f"v{seed}")
    promote_version(store, versions(root)[0])
    return root


def versions(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "store" / "models" / "ranker").iterdir())


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MOST_S", 0.01)
    monkeypatch.setattr(background, "LEAST_S", 0.01)


def recommend(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/recommendations", json={"user_id": 1} | body)


def test_a_promotion_log_that_cannot_be_read_is_reported_and_the_champion_answers(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "root"
    shutil.copytree(root / "store", copy / "store")
    with TestClient(create_app(settings_of(copy, poll_s=0.01))) as client:
        told = client.get("/v1/models").json()["log"]
        assert told["fault"] is None and told["read"].endswith("+00:00")
        (copy / "store" / "promotions").rename(copy / "gone")
        while (told := client.get("/v1/models").json()["log"])["fault"] is None:
            time.sleep(0.01)
        assert "promotions" in told["fault"] and recommend(client, user_id=1).status_code == 200
        ready = client.get("/readyz")
        assert ready.status_code == 200 and "cannot be followed" in ready.json()["detail"]
        while "recsys_promotion_looks_failed_total 0.0" in client.get("/metrics").text:  # updated between batches
            time.sleep(0.05)
        assert 'recsys_background_failures_total{thread="following"}' in client.get("/metrics").text
        (copy / "gone").rename(copy / "store" / "promotions")
        while client.get("/readyz").json()["detail"]:
            time.sleep(0.01)


@pytest.fixture(scope="module")
def served(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, ServingWorker]]:
    """A server with a store, rules and an exposure log."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "rules.yaml").write_text("rules: [{name: gone, action: exclude, where: {items: [105]}}]")
    os.utime(folder / "rules.yaml", (0, 0))
    given = {"rules": str(folder / "rules.yaml"), "exposures": {"folder": str(folder / "log"), "flush_s": 0.01}}
    app = create_app(settings_of(root, poll_s=3600, work_dir=str(folder / "served"), **given))
    with TestClient(app) as client:
        app.state.worker._watching.close(60)  # the tests look at the files themselves
        yield client, app.state.worker


def value(client: TestClient, worker: ServingWorker, name: str) -> float:
    """Return the value of a metric without the wait for the next second.

    The gauges are updated in the server's loop, as each second. Two threads could count one failure twice.
    """
    assert client.portal is not None
    client.portal.call(worker._update_gauges)
    return next(float(line.split()[-1]) for line in client.get("/metrics").text.splitlines() if line.startswith(name))


def raising(error: Exception) -> Callable[..., Any]:
    def raise_(*_: object, **__: object) -> Any:
        raise error

    return raise_


def answers_as_before(client: TestClient) -> None:
    response = recommend(client, k=500)
    assert response.status_code == 200, response.text
    assert 105 not in [item["item_id"] for item in response.json()["items"]], "the rules do not apply any more"


@pytest.mark.parametrize("errors", [STORE, DISK, BOTOCORE, HTTPX, OTHER], ids=["store", "disk", "botocore", "httpx", "other"])
def test_a_worker_answers_and_recovers_when_the_promotion_log_could_not_be_read(
    served: tuple[TestClient, ServingWorker], monkeypatch: pytest.MonkeyPatch, errors: list[Exception]
) -> None:
    client, worker = served
    for error in errors:
        failed = value(client, worker, "recsys_promotion_looks_failed_total")
        with monkeypatch.context() as patch:
            patch.setattr(worker.follower._store, "list", raising(error))
            assert not worker.follower.look() and worker.follower.fault
            assert value(client, worker, "recsys_promotion_looks_failed_total") == failed + 1
            assert value(client, worker, "recsys_store_denied") == isinstance(error, StoreDeniedError)
            assert client.get("/v1/models").json()["log"]["fault"] == worker.follower.fault
            answers_as_before(client)
        assert worker.follower.look() and worker.follower.fault is None
        assert value(client, worker, "recsys_store_denied") == 0


@pytest.mark.parametrize("errors", [STORE, DISK, BOTOCORE, HTTPX, OTHER], ids=["store", "disk", "botocore", "httpx", "other"])
def test_a_worker_answers_and_recovers_when_a_version_could_not_be_fetched(
    root: Path, served: tuple[TestClient, ServingWorker], monkeypatch: pytest.MonkeyPatch, errors: list[Exception]
) -> None:
    client, worker = served
    monkeypatch.setattr(worker.follower, "_wanted", lambda: frozenset({versions(root)[1]}))
    for error in errors:
        with monkeypatch.context() as patch:
            patch.setattr(worker.follower._store, "fetch", raising(error))
            patch.setattr(worker.follower._store, "local_file", lambda key: None)
            failed = not worker.follower.look()
            assert failed or versions(root)[1] in worker.follower.refused
            answers_as_before(client)
        recovers(client, worker, versions(root)[1])


@pytest.mark.parametrize("errors", [DISK, ARROW, OTHER, [VersionCorruptError("odd")]], ids=["disk", "arrow", "other", "corrupt"])
def test_a_worker_answers_and_recovers_when_a_version_could_not_be_loaded(
    root: Path, served: tuple[TestClient, ServingWorker], monkeypatch: pytest.MonkeyPatch, errors: list[Exception]
) -> None:
    client, worker = served
    version = versions(root)[1]
    monkeypatch.setattr(worker.follower, "_wanted", lambda: frozenset({version}))
    for error in errors:
        with monkeypatch.context() as patch:
            patch.setattr(Catalogue, "load", raising(error))
            whole = worker.follower.look()
            assert whole == (not isinstance(error, OSError)), "a disk that fails was blamed on the version"
            assert (version in worker.follower.refused) == whole
            assert value(client, worker, "recsys_refused_versions") == whole
            answers_as_before(client)
        recovers(client, worker, version)


def recovers(client: TestClient, worker: ServingWorker, version: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.follower, "_clock", lambda: time.monotonic() + 3600)
        assert worker.follower.look() and worker.engine.models.named(version) is not None
        assert value(client, worker, "recsys_refused_versions") == 0
        patch.setattr(worker.follower, "_wanted", frozenset)
        assert worker.follower.look() and worker.engine.models.named(version) is None


@pytest.mark.parametrize("place", ["read_settings_file", "settings_in"])
@pytest.mark.parametrize("errors", [DISK, YAML, OTHER], ids=["disk", "yaml", "other"])
def test_a_worker_answers_and_recovers_when_the_rules_could_not_be_read(
    served: tuple[TestClient, ServingWorker], monkeypatch: pytest.MonkeyPatch, errors: list[Exception], place: str
) -> None:
    client, worker = served
    rules = worker._files["rules"]
    content = rules.path.read_text()
    for error in errors:
        with monkeypatch.context() as patch:
            rules.path.write_text(content + "# changed")
            patch.setattr(serving.watched_file, place, raising(error))
            for _ in range(2):
                worker._watching._succeeds(worker._look_at_files)
            assert rules.fault is not None and "rules.yaml" in rules.fault
            assert value(client, worker, 'recsys_settings_file_refused{file="rules"}') == 1
            answers_as_before(client)
        rules.path.write_text(content)
        assert worker._look_at_files() and rules.fault is None
        assert value(client, worker, 'recsys_settings_file_refused{file="rules"}') == 0


def test_a_worker_answers_and_recovers_when_exposures_could_not_be_written(
    served: tuple[TestClient, ServingWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, worker = served
    log = worker.exposures
    assert isinstance(log, exposure_log.ExposureLog) and log.flush(60)
    worker.metrics.failures.labels("exposures").inc(0)
    for error in DISK:
        written, failed = log.written, value(client, worker, FAILURES)
        with monkeypatch.context() as patch:
            patch.setattr(log_files, "FileIO", raising(error))
            log._let_go()
            answers_as_before(client)
            assert not log.flush(60)
            answers_as_before(client)
            while value(client, worker, FAILURES) == failed:  # counted after the flush is answered
                time.sleep(0.001)
        while not log.flush(60):
            pass
        assert log.written == written + 2 and log.dropped == 0


def test_on_closing_unsent_events_are_sent_before_anything_is_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, begun = threading.Event(), threading.Event()

    def hangs(*_: object) -> Any:
        begun.set()
        gate.wait(60)
        raise StoreUnavailableError("away")

    monkeypatch.setattr(service, "FIRST_LOOK_S", 0.01)
    monkeypatch.setattr(service, "THREAD_S", 0.01)
    monkeypatch.setattr(LocalStore, "list", hangs)
    worker = ServingWorker(settings_of(root))
    sent = []
    monkeypatch.setattr(worker.states, "close", lambda: sent.append(gate.is_set()))
    worker.start()  # a store that hangs does not keep the worker from answering
    assert begun.wait(60) and worker.engine.models.champion is None
    worker.close()
    assert sent == [False] and worker.follower._loop.alive, "the end waited for the look"
    gate.set()
    worker.follower.close(60)
