"""Rent the pod of a run. Candidates are tried in order, with one create each. A run never gets two pods.

A create places one GPU type and does not look for another (create page of the API), so the choice is made here. The candidates
are the order's GPU types that the catalogue offers within the price limit: available types first, and within each group by
preference. The catalogue does not reserve anything, so types that it lists as sold out are tried too, after all others.
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
from infra.runpod.api import (
    AmbiguousError,
    CandidateForbiddenError,
    CandidateRefusedError,
    GpuType,
    Pod,
    RequestRefusedError,
    RunPodClient,
    RunPodError,
    UnavailableError,
)
from infra.runpod.order import Order, OrderError

__all__ = ["Candidate", "NoPodError", "PodLookup", "Provisioner", "WithdrawnError", "candidates"]

LOG = logging.getLogger(__name__)
CATALOGUE_S = 30.0
"""Seconds for which all runs share one answer of the catalogue."""


class NoPodError(RunPodError):
    """No GPU type could be rented in the given time."""


class WithdrawnError(Exception):
    """The run does not need a pod any more."""


@dataclass(frozen=True)
class Candidate:
    """A GPU type to try. `price` is the price of the complete pod in USD per hour."""

    gpu: str
    price: float


class PodLookup(Protocol):
    """The account's pods, which the reconciler lists at a steady pace."""

    async def next_look(self) -> None:
        """Wait for the next list that starts after this call."""

    def pod_of(self, run: UUID, attempt: int) -> Pod | None:
        """Return the run's pod of that attempt in the last list, or None if there is none."""


def candidates(order: Order, catalogue: list[GpuType]) -> list[Candidate]:
    """Return the GPU types to try, in order. Raises OrderError if none of them can ever be rented."""
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
            + (f"; the catalogue does not list {', '.join(unknown)}" if unknown else "")
            + ". Change gpu_types, cloud or max_price_per_hour in the work pool's job variables."
        )
    return [found for found, free in within if free] + [found for found, free in within if not free]


async def pause(seconds: float, withdrawn: asyncio.Event) -> None:
    """Wait for `seconds`, or until `withdrawn` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(withdrawn.wait(), seconds)


async def _before(withdrawn: asyncio.Event, coming: Coroutine[Any, Any, None]) -> bool:
    """Wait for `coming`. Returns False if `withdrawn` is set first."""
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
    """Rents pods for one account. Many runs may use it at once."""

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
        """Return the run's pod: an existing one, or a new one. Errors that waiting cannot fix are raised at once.

        Args:
            order: What to rent.
            withdrawn: Set when the run does not need a pod any more.
            tell: Shows people what the run is waiting for.

        Raises:
            WithdrawnError: `withdrawn` was set.
            NoPodError: No pod could be rented within `order.capacity_timeout_s`, or every candidate breaks a rule.
            AccountError: The key or the balance is the problem.
            RequestRefusedError: RunPod refuses the request itself.
            OrderError: None of the GPU types can ever be rented.
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
        """Try each candidate once. Returns the pod, or None and the last answer."""
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
            raise NoPodError(f"RunPod refuses all {broken} GPU types, and not for lack of machines. {said}")
        return None, said

    async def _create(self, order: Order, candidate: Candidate) -> Pod:
        """Create one pod. Until an answer has shown how the API takes a command, only one create runs at a time."""
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
            # API descriptions before September 2026 do not have `cmd`.
            if not any("'cmd'" in why or "'entrypoint'" in why for why in error.errors):
                raise
            self._style = "args"
            return await self._client.create_pod(order.body(candidate.gpu, candidate.price, "args"))

    async def _settled(self, order: Order, withdrawn: asyncio.Event) -> Pod | None:
        """Look for the pod of a create whose answer was lost.

        Returns None once enough checks have not found the pod, so that it does not exist, or once the run is withdrawn. In the
        second case, the pod may exist; later checks find and delete it.
        """
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
