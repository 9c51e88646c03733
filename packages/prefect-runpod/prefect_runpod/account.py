"""The pods of a RunPod account: which pods are rented, for which run, and which ones no run needs any more.

Used by people and by the hourly sweep.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterType

from prefect_runpod.api import Pod, RunPodClient
from prefect_runpod.block import api_key
from prefect_runpod.pods.cost import PodCost
from prefect_runpod.pods.order import Marks, marks_of
from prefect_runpod.pods.reconciler import Reconciler, Watcher
from prefect_runpod.pods.runs import RunsUnavailableError
from prefect_runpod.prefect_runs import PrefectRuns
from prefect_runpod.project import current
from prefect_runpod.settings import POOL_TYPE, RunPodSettings

__all__ = ["Rented", "rented", "sweep"]


@dataclass(frozen=True)
class Rented:
    """A pod of the account."""

    pod: str
    name: str
    status: str
    gpu: str
    usd_per_hour: float
    age_s: float | None
    usd: float
    """The cost so far."""
    pool: str
    """Name of the work pool, or `other` if the pod does not belong to this Prefect server."""
    run: str
    """Name and state of the flow run, or why they are not known."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


async def rented() -> list[Rented]:
    """Return all pods of the account, the most expensive first. Raises RunPodError or SettingsError."""
    async with AsyncExitStack() as stack:
        settings, runpod, prefect = await _open(stack)
        pods = await runpod.list_pods(settings.attempts)
        pools = await _pools(prefect)
        rows = [await _row(pod, marks_of(pod), pools, prefect, runpod.time()) for pod in pods]
    return sorted(rows, key=lambda row: -row.usd)


async def sweep(looks: int = 3) -> list[Rented]:
    """Reconcile the pools of this Prefect server, as their workers do.

    Pods that no run needs, or that are too old, are deleted. Runs whose pod is gone are marked. Pods of other pools are left
    alone: another Prefect server may share the account.

    Args:
        looks: Number of checks.

    Returns:
        The pods that existed before and that this call has deleted or found gone.

    Raises:
        RunPodError: RunPod failed or refused a request.
        SettingsError: A setting is not allowed, or there is no key.
    """
    async with AsyncExitStack() as stack:
        settings, runpod, prefect = await _open(stack)
        pools = await _pools(prefect)
        before = {row.pod: row for row in await rented() if row.pool in pools.values()}
        watcher = Watcher("sweep", server=settings.server_url or str(prefect.api_url))
        sweepers = [
            Reconciler(runpod, PrefectRuns(lambda: prefect, pool, name), pool, settings, watcher) for pool, name in pools.items()
        ]
        for number in range(looks):
            if number:
                await asyncio.sleep(settings.look_every_s)
            for sweeper in sweepers:
                await sweeper.look()
    ended = {pod for sweeper in sweepers for pod in sweeper.ended}
    return [row for pod, row in before.items() if pod in ended]


async def _open(stack: AsyncExitStack) -> tuple[RunPodSettings, RunPodClient, PrefectClient]:
    settings = current().settings(os.environ)
    prefect = await stack.enter_async_context(get_client())
    runpod = await stack.enter_async_context(RunPodClient(await api_key(settings), settings))
    return settings, runpod, prefect


async def _pools(prefect: PrefectClient) -> dict[UUID, str]:
    wanted = WorkPoolFilter(type=WorkPoolFilterType(any_=[POOL_TYPE]))
    return {pool.id: pool.name for pool in await prefect.read_work_pools(work_pool_filter=wanted)}


async def _row(pod: Pod, marks: Marks | None, pools: dict[UUID, str], prefect: PrefectClient, now: datetime) -> Rented:
    cost = PodCost.of(pod, now)
    pool = "other" if marks is None else pools.get(marks.pool, "other")
    said = ""
    if marks is not None and pool != "other":
        try:
            run = (await PrefectRuns(lambda: prefect, marks.pool, pool).look({marks.run})).get(marks.run)
            said = f"{run.name} ({run.state.lower()})" if run is not None else "does not exist any more"
        except RunsUnavailableError:
            said = "unknown: the Prefect server does not answer"
    return Rented(
        pod=pod.id,
        name=pod.name,
        status=pod.status,
        gpu=cost.gpu,
        usd_per_hour=pod.cost,
        age_s=None if pod.created_at is None else round(cost.seconds, 1),
        usd=cost.usd,
        pool=pool,
        run=said,
    )
