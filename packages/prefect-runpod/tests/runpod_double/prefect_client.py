"""Flow runs and rented pods for these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.states import State

from prefect_runpod.pods.order import Marks
from runpod_double.runpod_api import RunPodDouble

T = TypeVar("T")
PRICES = {"NVIDIA L4": 0.44, "NVIDIA A40": 0.8}


def with_client(act: Callable[[PrefectClient], Awaitable[T]]) -> T:
    async def within() -> T:
        async with get_client() as client:
            return await act(client)

    return asyncio.run(within())


@flow(name="rented-nothing")
def nothing() -> None: ...


async def a_run(client: PrefectClient, state: State[Any], pool: WorkPool | None = None) -> FlowRun:
    """Create a flow run in that state. If a pool is given, it is a run of a deployment on that pool."""
    if pool is None:
        run = await client.create_flow_run(nothing)
    else:
        deployment = await client.create_deployment(
            await client.create_flow(nothing), f"d-{uuid4().hex[:6]}", work_pool_name=pool.name
        )
        run = await client.create_flow_run_from_deployment(deployment)
    await client.set_flow_run_state(run.id, state, force=True)
    return await client.read_flow_run(run.id)


def rent(double: RunPodDouble, marks: Marks) -> Any:
    body = {"name": marks.name, "image": "i", "gpu": {"id": "NVIDIA L4"}, "args": "sleep 600", "env": marks.environment()}
    return double.rent(body)
