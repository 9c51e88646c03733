"""Rent the pod of a run. Candidates are tried in order, with one create each. A run never gets two pods.

A create places one GPU type and does not look for another (create page of the API), so the choice is made here. The candidates
are the order's GPU types that the catalogue offers within the price limit: available types first, and within each group by
preference. The catalogue does not reserve anything, so types that it lists as sold out are tried too, after all others. Nor does it bind
RunPod to its prices: a pod that is billed above the limit is deleted at once, and the next type is tried.
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

from prefect_runpod.api import (
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
from prefect_runpod.pods.order import Marks, Order, OrderError
from prefect_runpod.settings import RunPodSettings

__all__ = ["Candidate", "NoPodError", "PodLookup", "Provisioner", "WithdrawnError", "candidates"]

LOG = logging.getLogger(__name__)
CATALOGUE_S = 30.0
"""Seconds for which all runs share one answer of the catalogue."""
PATIENT_LOOKS = 5
"""Checks for which a lost create is looked for at least."""


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

    def too_dear(self, run: UUID) -> set[str]:
        """Return the GPU types whose pods were billed above the run's maximum price."""

    async def reject(self, pod: Pod, marks: Marks) -> None:
        """Delete a pod that is too dear. If that fails, later checks delete it. Raises RunPodError."""


def candidates(order: Order, catalogue: list[GpuType]) -> list[Candidate]:
    """Return the GPU types to try, in order. Raises OrderError if none of them can ever be rented."""
    offered = {found.id: found for found in catalogue}
    unknown = [gpu for gpu in order.gpu_types if gpu not in offered]
    priced = [
        (Candidate(gpu, round(price * order.gpu_count, 6)), offered[gpu].availability != "NONE")
        for gpu in order.gpu_types
        if gpu in offered and (price := offered[gpu].price(order.cloud)) is not None
    ]
    within = [(found, free) for found, free in priced if order.marks.max_price is None or found.price <= order.marks.max_price]
    if not within:
        dear = ", ".join(f"{found.gpu} at {found.price:g}" for found, _ in priced)
        raise OrderError(
            f"None of the GPU types {', '.join(order.gpu_types)} can be rented in {order.cloud}"
            + (f": {dear} USD per hour is above max_price_per_hour {order.marks.max_price:g}" if dear else "")
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
            NoPodError: No pod could be rented within `order.capacity_timeout_s`, or every candidate breaks a rule or is billed
                above the maximum price.
            AccountError: The key or the balance is the problem.
            RequestRefusedError: RunPod refuses the request itself.
            OrderError: None of the GPU types can ever be rented.
        """
        deadline, rounds = self._clock() + order.capacity_timeout_s, 0
        while True:
            if withdrawn.is_set():
                raise WithdrawnError
            found, said = await self._round(order, withdrawn, deadline, tell)
            if found is not None:
                return found
            if self._clock() >= deadline:
                raise NoPodError(f"No pod could be rented within {order.capacity_timeout_s} s. The last answer: {said}")
            LOG.info("no pod for %s yet: %s", order.marks.name, said)
            await tell(said)
            wait = min(self._settings.max_backoff_s, self._settings.backoff_s * 2 ** min(rounds, 20), deadline - self._clock())
            await self._pause(max(0.0, wait), withdrawn)
            rounds += 1

    async def _round(
        self, order: Order, withdrawn: asyncio.Event, deadline: float, tell: Callable[[str], Awaitable[None]]
    ) -> tuple[Pod | None, str]:
        """Try each candidate once. Returns the pod, or None and the last answer."""
        try:
            choice = candidates(order, await self._catalogue(order.gpu_count, order.cloud))
        except UnavailableError as error:
            return None, str(error)
        said, broken = "", 0
        for candidate in choice:
            if candidate.gpu in self._lookup.too_dear(order.marks.run):
                said, broken = said or f"{candidate.gpu} was billed above max_price_per_hour.", broken + 1
                continue
            existing = self._lookup.pod_of(order.marks.run, order.marks.attempt)
            if existing is not None:
                return existing, ""
            try:
                pod = await self._billed(await self._create(order, candidate))
                if not order.marks.too_dear(pod.cost):
                    return pod, ""
                said, broken = await self._reject(pod, order.marks), broken + 1
                await tell(said)
            except AmbiguousError as error:
                found = await self._settled(order, withdrawn, deadline)
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
            raise NoPodError(f"None of the {broken} GPU types can be rented, and not for lack of machines. {said}")
        return None, said

    async def _billed(self, pod: Pod) -> Pod:
        """Return the pod with its price, if RunPod tells it yet. The answer to a create may lack it."""
        if pod.cost <= 0:
            with suppress(RunPodError):
                return await self._client.get_pod(pod.id)
        return pod

    async def _reject(self, pod: Pod, marks: Marks) -> str:
        """Delete a pod that is too dear. Returns why, for people."""
        why = f"RunPod billed {pod.cost:g} USD per hour for {pod.gpu}, above max_price_per_hour {marks.max_price:g}"
        try:
            await self._lookup.reject(pod, marks)
        except RunPodError as error:
            LOG.warning("The pod %s is too dear, and the next check deletes it: %s", pod.id, error)
        return f"{why}, so the pod {pod.id} is deleted and the next type is tried."

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

    async def _settled(self, order: Order, withdrawn: asyncio.Event, deadline: float) -> Pod | None:
        """Look for the pod of a create whose answer was lost.

        Returns None once enough checks have not found the pod, so that it does not exist, once the run is withdrawn, or if the
        pods cannot be listed until the deadline. In the last two cases, the pod may exist; later checks find and delete it.
        """
        for _ in range(self._settings.looks_to_miss):
            # A run that is about to give up waits for a few checks too: they usually find the pod.
            patience_s = max(deadline - self._clock(), PATIENT_LOOKS * self._settings.look_every_s)
            try:
                if not await asyncio.wait_for(_before(withdrawn, self._lookup.next_look()), patience_s):
                    return None
            except TimeoutError:
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
