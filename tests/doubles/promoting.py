"""A process that promotes or publishes round after round, beside others that do the same. It imports only what the registry needs."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

from configs.errors import AlreadyExistsError
from configs.settings import StoreSettings
from infra.registry import Lineage, ModelRegistry
from infra.storage import open_store

__all__ = ["PATIENCE_S", "Race", "promote_each_round", "publish_each_round"]

PATIENCE_S = 600.0  # after which a barrier gives up, so that nobody waits for ever for a process that died


@dataclass(frozen=True)
class Race:
    """What the processes of a race share."""

    barrier: Barrier
    results: multiprocessing.Queue[tuple[int, list[int]]]
    settings: StoreSettings
    rounds: int
    name: str
    began: datetime

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.barrier.wait(PATIENCE_S)


def promote_each_round(process: int, race: Race, versions: list[str]) -> None:
    registry, won = ModelRegistry(open_store(race.settings)), []
    version = versions[process % len(versions)]
    for number in range(race.rounds):
        current = registry.champion(race.name)
        assert (current.number if current else 0) == number
        race.wait()
        with suppress(AlreadyExistsError):
            made = registry.promote(race.name, version, expected=number, reason=f"process {process}", now=race.began)
            won.append(made.number)
        race.wait()
    race.results.put((process, won))


def publish_each_round(process: int, race: Race, trained: Path, lineage: Lineage) -> None:
    registry, won = ModelRegistry(open_store(race.settings)), []
    decision = {"outcome": "promoted", "reasons": [f"process {process}"]}
    for number in range(race.rounds):
        now = race.began + timedelta(hours=number)
        race.wait()
        with suppress(AlreadyExistsError):
            registry.seal(registry.stage(race.name, trained, now), decision, lineage, now)
            won.append(number)
        race.wait()
    race.results.put((process, won))
