"""Rents the pod of a run: candidates in order, one create each, and never two pods for one run.

A create places one GPU type and does not look for another (create page of the API), so the choice is made here: the order's
GPU types that the catalogue offers within the price, those that are free first, and within each group by preference. The
catalogue is no reservation, so those that it calls sold out are tried too, last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

from configs.runpod import RunPodSettings
from infra.runpod.client import RunPodClient
from infra.runpod.errors import (
    AmbiguousError,
    CandidateForbiddenError,
    CandidateRefusedError,
    RequestRefusedError,
    RunPodError,
    UnavailableError,
)
from infra.runpod.order import Order, OrderError
from infra.runpod.pods import GpuType, Pod

__all__ = ["Candidate", "NoPodError", "PodLookup", "Provisioner", "WithdrawnError", "candidates"]

LOG = logging.getLogger(__name__)
CATALOGUE_S = 30.0
"""Seconds for which one answer of the catalogue serves all runs."""


class NoPodError(RunPodError):
    """No GPU type could be rented in the time given."""


class WithdrawnError(Exception):
    """The run does not want a pod any more."""


@dataclass(frozen=True)
class Candidate:
    """A GPU type to try; `price` is USD per hour of the whole pod."""

    gpu: str
    price: float


class PodLookup(Protocol):
    """The account's pods, as somebody lists them at a steady pace."""

    async def next_look(self) -> None:
        """Return after the next list that was begun after this call."""

    def pod_of(self, run: UUID, attempt: int) -> Pod | None:
        """The run's pod of that attempt in the last list."""


def candidates(order: Order, catalogue: list[GpuType]) -> list[Candidate]:
    """The GPU types to try, in order. Raises OrderError where none can ever do."""
    offered = {found.id: found for found in catalogue}
    unknown = [gpu for gpu in order.gpu_types if gpu not in offered]
    priced = [
        (Candidate(gpu, round(price * order.gpu_count, 6)), offered[gpu].availability != "NONE")
        for gpu in order.gpu_types
        if gpu in offered and (price := offered[gpu].price(order.cloud)) is not None
    ]
    within = [(found, free) for found, free in priced if order.max_price is None or found.price <= order.max_price]
    if not within:
        dear = ", ".join(f"{found.gpu} at {found.price:g}" for found, _ in priced)
        raise OrderError(
            f"None of the GPU types {', '.join(order.gpu_types)} can be rented in {order.cloud}"
            + (f": {dear} USD per hour is above max_price_per_hour {order.max_price:g}" if dear else "")
            + (f"; the catalogue does not know {', '.join(unknown)}" if unknown else "")
            + ". Change gpu_types, cloud or max_price_per_hour of the work pool's job variables."
        )
    return [found for found, free in within if free] + [found for found, free in within if not free]


async def pause(seconds: float, withdrawn: asyncio.Event) -> None:
    """Wait so long, or until `withdrawn` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(withdrawn.wait(), seconds)


async def _before(withdrawn: asyncio.Event, coming: Coroutine[Any, Any, None]) -> bool:
    """Wait for `coming`; False where `withdrawn` was set before it came."""
    waits = [asyncio.ensure_future(coming), asyncio.ensure_future(withdrawn.wait())]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in done:
            wait.result()
        return waits[0] in done
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


class Provisioner:
    """Rents pods for one account. Many runs may ask at once."""

    def __init__(
        self,
        client: RunPodClient,
        lookup: PodLookup,
        settings: RunPodSettings,
        pause: Callable[[float, asyncio.Event], Awaitable[None]] = pause,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._lookup, self._settings = client, lookup, settings
        self._style: Literal["exec", "args"] | None = None
        self._learning = asyncio.Lock()
        self._pause, self._clock = pause, clock
        self._catalogues: dict[tuple[int, str], tuple[float, list[GpuType]]] = {}
        self._reading = asyncio.Lock()

    async def rent(
        self,
        order: Order,
        withdrawn: asyncio.Event,
        tell: Callable[[str], Awaitable[None]],
    ) -> Pod:
        """The run's pod: one that exists already, or a new one. Tells people what it waits for.

        Raises WithdrawnError once `withdrawn` is set, NoPodError after `order.capacity_timeout_s`, and at once what no waiting
        mends: AccountError, RequestRefusedError, OrderError, or NoPodError where every candidate breaks a rule.
        """
        deadline, rounds = self._clock() + order.capacity_timeout_s, 0
        while True:
            if withdrawn.is_set():
                raise WithdrawnError
            found, said = await self._round(order, withdrawn)
            if found is not None:
                return found
            if self._clock() >= deadline:
                raise NoPodError(f"No pod could be rented within {order.capacity_timeout_s} s. The last answer: {said}")
            LOG.info("no pod for %s yet: %s", order.marks.name, said)
            await tell(said)
            wait = min(self._settings.max_backoff_s, self._settings.backoff_s * 2 ** min(rounds, 20), deadline - self._clock())
            await self._pause(max(0.0, wait), withdrawn)
            rounds += 1

    async def _round(self, order: Order, withdrawn: asyncio.Event) -> tuple[Pod | None, str]:
        """One try of each candidate: the pod, or what was said last."""
        try:
            choice = candidates(order, await self._catalogue(order.gpu_count, order.cloud))
        except UnavailableError as error:
            return None, str(error)
        said, broken = "", 0
        for candidate in choice:
            existing = self._lookup.pod_of(order.marks.run, order.marks.attempt)
            if existing is not None:
                return existing, ""
            try:
                return await self._create(order, candidate), ""
            except AmbiguousError as error:
                found = await self._settled(order, withdrawn)
                if found is not None:
                    return found, ""
                return None, str(error)
            except UnavailableError as error:
                return None, str(error)
            except CandidateRefusedError as error:
                said, broken = str(error), broken + (not error.capacity)
            except CandidateForbiddenError as error:
                said, broken = str(error), broken + 1
        if broken == len(choice):
            raise NoPodError(f"RunPod refuses every one of the {broken} GPU types, and not for want of machines. {said}")
        return None, said

    async def _create(self, order: Order, candidate: Candidate) -> Pod:
        """One pod; until an answer has told how the API takes a command, one create at a time asks."""
        if order.command_style != "auto":
            return await self._client.create_pod(order.body(candidate.gpu, candidate.price, order.command_style))
        if self._style is None:
            async with self._learning:
                if self._style is None:
                    return await self._create_first(order, candidate)
        return await self._client.create_pod(order.body(candidate.gpu, candidate.price, self._style))

    async def _create_first(self, order: Order, candidate: Candidate) -> Pod:
        try:
            pod = await self._client.create_pod(order.body(candidate.gpu, candidate.price, "exec"))
            self._style = "exec"
            return pod
        except RequestRefusedError as error:
            # Descriptions before September 2026 do not know `cmd`.
            if not any("'cmd'" in why or "'entrypoint'" in why for why in error.errors):
                raise
            self._style = "args"
            return await self._client.create_pod(order.body(candidate.gpu, candidate.price, "args"))

    async def _settled(self, order: Order, withdrawn: asyncio.Event) -> Pod | None:
        """The pod of a create whose answer was lost; None once so many looks have not found it that there is none, or once
        nobody wants it: what there may be is then found by the looks, and deleted."""
        for _ in range(self._settings.looks_to_miss):
            if not await _before(withdrawn, self._lookup.next_look()):
                return None
            found = self._lookup.pod_of(order.marks.run, order.marks.attempt)
            if found is not None:
                return found
        return None

    async def _catalogue(self, count: int, cloud: str) -> list[GpuType]:
        async with self._reading:
            when, found = self._catalogues.get((count, cloud), (-CATALOGUE_S, []))
            if self._clock() - when >= CATALOGUE_S or not found:
                found = await self._client.gpu_types(count=count, cloud=cloud)
                self._catalogues[count, cloud] = (self._clock(), found)
            return found
