"""Gathers requests that wait at the same time into one batch for the engine, in the event loop.

No request is held back to wait for others. A batch contains the requests that the loop had ready; requests that arrive while it
is computed form the next batch. A batch ends early if its requests contain many events, because the loop serves nobody else while
the engine computes. The engine runs in the loop's thread, not in its own: two threads would compete for the GIL and
wait for each other longer than they compute (measured: half as many requests per second). One worker uses one core; to use more
cores, start more workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from opentelemetry.trace import SpanContext

from configs.errors import OverloadedError, RecsysError
from infra.tracing import current_span, span

__all__ = ["Batcher"]

BETWEEN_S = 1.0
EVENTS_AT_ONCE = 1000  # of all requests of a batch with more than one
Waiting = tuple[Any, "asyncio.Future[Any] | None", Callable[[Any], None] | None, SpanContext | None]
logger = logging.getLogger(__name__)


class Batcher:
    """Runs jobs in batches, in the event loop.

    `process` takes a batch of jobs and returns one result per job; a result may be an exception. `between` is called every second
    after `start`. `events_of` returns how many events a job contains. All callbacks run in the event loop.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Any]], Sequence[Any]],
        *,
        most: int,
        queue: int,
        between: Callable[[], None] = lambda: None,
        on_batch: Callable[[int], None] = lambda size: None,
        events_of: Callable[[Any], int] = lambda job: 0,
    ) -> None:
        self._process, self._most, self._limit = process, most, queue
        self._between, self._on_batch, self._events_of = between, on_batch, events_of
        self._jobs: deque[Waiting] = deque()
        self._due = False  # the next batch is already scheduled on the loop
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def start(self) -> None:
        """Start calling `between`."""
        self._timer = asyncio.get_running_loop().call_later(BETWEEN_S, self._tick)

    def close(self) -> None:
        """Stop calling `between`, and answer all waiting jobs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._jobs:
            self._answer()

    async def submit(self, job: Any) -> Any:
        """Return the job's result. If the result is an exception, it is raised.

        Raises:
            OverloadedError: If too many jobs are waiting.
        """
        if len(self._jobs) >= self._limit:
            raise OverloadedError(f"{self._limit} requests are already waiting; try again in a moment.")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._add((job, future, None, current_span()))
        return await future

    def offer(self, job: Any, then: Callable[[Any], None]) -> bool:
        """Queue a job that nobody waits for, and call `then` with its result. Return False if a full batch is already waiting."""
        if len(self._jobs) >= self._most:
            return False
        self._add((job, None, then, None))
        return True

    def _add(self, waiting: Waiting) -> None:
        self._jobs.append(waiting)
        if not self._due:
            self._due = True
            # Runs after everything that the loop has ready now, including requests that arrived together with this one.
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._due = False
        if self._jobs:
            self._answer()
        if self._jobs and not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._run)

    def _tick(self) -> None:
        _outcome(self._between)
        self.start()

    def _answer(self) -> None:
        batch = [self._jobs.popleft()]
        events = self._events_of(batch[0][0])
        while self._jobs and len(batch) < self._most:
            events += self._events_of(self._jobs[0][0])
            if events > EVENTS_AT_ONCE:
                break
            batch.append(self._jobs.popleft())
        self._on_batch(len(batch))
        results = _outcome(partial(self._computed, batch))
        if isinstance(results, Exception):
            results = [results] * len(batch)
        for (_, future, then, _), outcome in zip(batch, results, strict=True):
            if then is not None:
                _outcome(partial(then, outcome))
            elif future is None or future.done():  # the client has disconnected
                continue
            elif isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _computed(self, batch: Sequence[Waiting]) -> Sequence[Any]:
        jobs = [job for job, *_ in batch]
        callers = [caller for *_, caller in batch if caller is not None]
        if not callers:
            return self._process(jobs)
        with span("batch", {"recsys.batch.requests": len(jobs)}, callers=callers):
            return self._process(jobs)


def _outcome(function: Callable[[], Any]) -> Any:
    """Return the function's result, or the exception that it raises. The loop must keep running, so a defect is only logged."""
    try:
        return function()
    except Exception as error:
        if not isinstance(error, RecsysError):
            logger.exception("the engine failed")
        return error
