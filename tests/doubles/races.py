"""Many processes promote, or publish one version, at the same time. One wins each round, and the store holds what it wrote."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.settings import StoreSettings
from infra.registry import Lineage, ModelRegistry, machine_facts
from infra.storage import Store, open_store
from infra.storage.local import LocalStore
from tests.doubles.forks import forks
from tests.doubles.promoting import PATIENCE_S, Race, promote_each_round, publish_each_round
from tests.tasks.stored import NAME, NOW, sealed

__all__ = ["copy_store", "race_to_promote", "race_to_publish", "three_versions"]

LINEAGE = Lineage(
    kind="popularity",
    dataset="small/abc",
    protocol="loo-exact",
    seed=0,
    settings={},
    metrics={},
    duration_s=1.0,
    cost=None,
    **machine_facts(),
)


def copy_store(source: Store, target: Store) -> None:
    for key in source.list():
        target.put(key, source.get(key))


def three_versions(folder: Path) -> tuple[LocalStore, list[str]]:
    """Return a store in `folder` and the versions in it. `folder / "m0"` has the files of the first one."""
    store = LocalStore(folder / "store")
    return store, [sealed(store, folder / f"m{hour}", hour=hour).version for hour in range(3)]


def race_to_promote(settings: StoreSettings, versions: list[str], *, processes: int, rounds: int) -> None:
    """In each round, each process promotes a version against the same champion. One of them wins, and the log is complete."""
    won = _all_at_once(promote_each_round, settings, rounds, processes, versions)
    wins = Counter(number for numbers in won.values() for number in numbers)
    assert wins == dict.fromkeys(range(1, rounds + 1), 1), "not exactly one winner in each round"
    store = open_store(settings)
    registry = ModelRegistry(store)
    entries = registry.history(NAME)
    assert [entry.number for entry in entries] == list(range(1, rounds + 1))
    for entry in entries:  # what the winner wrote is what is stored
        winner = next(process for process, numbers in won.items() if entry.number in numbers)
        assert entry.reason == f"process {winner}"
        assert entry.version == versions[winner % len(versions)]
    current = registry.champion(NAME)
    assert current is not None and current == entries[-1]


def race_to_publish(settings: StoreSettings, trained: Path, *, processes: int, rounds: int) -> None:
    """Each process publishes the same files in the same second, and so as the same version. One succeeds, and the version is complete."""
    won = _all_at_once(publish_each_round, settings, rounds, processes, trained, LINEAGE)
    wins = Counter(number for numbers in won.values() for number in numbers)
    assert wins == dict.fromkeys(range(rounds), 1), "not exactly one publisher in each round"
    store = open_store(settings)
    registry = ModelRegistry(store)
    versions = registry.versions(NAME)
    assert len(versions) == rounds
    for number, ref in enumerate(versions):
        registry.verify(ref)
        winner = next(process for process, numbers in won.items() if number in numbers)
        assert registry.decision(ref)["reasons"] == [f"process {winner}"]


def _all_at_once(
    story: Callable[..., None], settings: StoreSettings, rounds: int, processes: int, *arguments: Any
) -> dict[int, list[int]]:
    """Return the rounds that each process has won."""
    results: multiprocessing.Queue[tuple[int, list[int]]] = forks.Queue()
    race = Race(forks.Barrier(processes), results, settings, rounds, NAME, NOW)
    running = [forks.Process(target=story, args=(n, race, *arguments)) for n in range(processes)]
    for process in running:
        process.start()
    won = dict(results.get(timeout=PATIENCE_S) for _ in running)
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * processes
    return won
