"""A process that promotes, or publishes, round after round, beside others that do the same. Imports no more than the registry needs."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

from configs.errors import AlreadyExistsError
from configs.settings import StoreSettings
from infra.registry import Lineage, ModelRegistry
from infra.storage import open_store

__all__ = ["PATIENCE_S", "promote_each_round", "publish_each_round"]

PATIENCE_S = 600.0  # after which a barrier gives up, so that a process that died is no endless wait


def promote_each_round(
    process: int,
    barrier: Barrier,
    results: multiprocessing.Queue[tuple[int, list[int]]],
    settings: StoreSettings,
    versions: list[str],
    rounds: int,
    name: str,
    began: datetime,
) -> None:
    store, won = open_store(settings), []
    registry = ModelRegistry(store)
    version = versions[process % len(versions)]
    for number in range(rounds):
        current = registry.champion(name)
        assert (current.number if current else 0) == number
        barrier.wait(PATIENCE_S)
        with suppress(AlreadyExistsError):
            won.append(registry.promote(name, version, expected=number, reason=f"process {process}", now=began).number)
        barrier.wait(PATIENCE_S)
    results.put((process, won))


def publish_each_round(
    process: int,
    barrier: Barrier,
    results: multiprocessing.Queue[tuple[int, list[int]]],
    settings: StoreSettings,
    trained: Path,
    lineage: Lineage,
    rounds: int,
    name: str,
    began: datetime,
) -> None:
    store, won = open_store(settings), []
    registry = ModelRegistry(store)
    decision = {"outcome": "promoted", "reasons": [f"process {process}"]}
    for number in range(rounds):
        now = began + timedelta(hours=number)
        barrier.wait(PATIENCE_S)
        with suppress(AlreadyExistsError):
            registry.seal(registry.stage(name, trained, now), decision, lineage, now)
            won.append(number)
        barrier.wait(PATIENCE_S)
    results.put((process, won))
