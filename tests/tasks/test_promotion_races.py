"""Many processes promote at once, round after round: one wins each round, and the log is whole."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from configs.settings import StoreSettings
from infra.stores import LocalStore, Store, open_store
from tasks.promotions import champion, history
from tests.doubles.promoting import PATIENCE_S, promote_each_round
from tests.tasks.stored import NAME, NOW, sealed


def race(settings: StoreSettings, versions: list[str], *, processes: int, rounds: int) -> None:
    """Each process promotes a version in each round, decided against the same champion."""
    context = multiprocessing.get_context("spawn")  # a fork of this process would inherit its threads' locks
    barrier = context.Barrier(processes)
    results: multiprocessing.Queue[tuple[int, list[int]]] = context.Queue()
    running = [
        context.Process(
            target=promote_each_round,
            args=(settings, NAME, versions[n % len(versions)], n, rounds, NOW, barrier, results),
        )
        for n in range(processes)
    ]
    for process in running:
        process.start()
    won = dict(results.get(timeout=PATIENCE_S) for _ in running)
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * processes
    wins = Counter(number for numbers in won.values() for number in numbers)
    assert wins == dict.fromkeys(range(1, rounds + 1), 1), "not exactly one winner in each round"
    store = open_store(settings)
    entries = history(store, NAME)
    assert [entry.number for entry in entries] == list(range(1, rounds + 1))
    for entry in entries:  # what the winner wrote is what is stored
        winner = next(process for process, numbers in won.items() if entry.number in numbers)
        assert entry.reason == f"process {winner}"
        assert entry.version == versions[winner % len(versions)]
    current = champion(store, NAME)
    assert current is not None and current == entries[-1]


def copy_store(source: Store, target: Store) -> None:
    for key in source.list():
        target.put(key, source.get(key))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, list[str]]:
    root = tmp_path_factory.mktemp("race")
    store = LocalStore(root / "store")
    return store, [sealed(store, root / f"m{hour}", hour=hour).version for hour in range(3)]


def test_of_16_processes_one_wins_each_of_50_rounds(made: tuple[LocalStore, list[str]], tmp_path: Path) -> None:
    store, versions = made
    settings = StoreSettings(url=f"file:{tmp_path}/store")
    copy_store(store, open_store(settings))
    race(settings, versions, processes=16, rounds=50)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreSettings]:
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = StoreSettings(url="s3://races/some/place", endpoint_url=f"http://{host}:{port}", timeout_s=30)
    boto3.client("s3", endpoint_url=settings.endpoint_url, region_name="us-east-1").create_bucket(Bucket="races")
    yield settings
    server.stop()


def test_of_6_processes_one_wins_each_round_on_s3(made: tuple[LocalStore, list[str]], s3: StoreSettings) -> None:
    store, versions = made
    copy_store(store, open_store(s3))
    race(s3, versions, processes=6, rounds=5)
