"""A process that promotes round after round, beside others that do the same. Imports no more than the promotion log needs."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from datetime import datetime
from multiprocessing.synchronize import Barrier

from configs.errors import AlreadyExistsError
from configs.settings import StoreSettings
from infra.stores import open_store
from tasks.promotions import champion, promote

__all__ = ["PATIENCE_S", "promote_each_round"]

PATIENCE_S = 120.0  # after which a barrier gives up, so that a process that died is no endless wait


def promote_each_round(
    settings: StoreSettings,
    name: str,
    version: str,
    process: int,
    rounds: int,
    now: datetime,
    barrier: Barrier,
    results: multiprocessing.Queue[tuple[int, list[int]]],
) -> None:
    """Promote `version` against the champion of each round, and tell the numbers of the entries that were written."""
    store, won = open_store(settings), []
    for number in range(rounds):
        current = champion(store, name)
        assert (current.number if current else 0) == number
        barrier.wait(PATIENCE_S)
        with suppress(AlreadyExistsError):
            won.append(promote(store, name, version, expected=number, reason=f"process {process}", now=now).number)
        barrier.wait(PATIENCE_S)
    results.put((process, won))
