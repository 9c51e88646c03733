"""Brings what a worker measures during a rollout to the store, so that whoever watches the rollout can read it."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from configs.errors import AlreadyExistsError
from infra.measurements import Measured, write_measured
from infra.storage import Store
from serving.background import BackgroundLoop, ignored
from serving.engine import RecommendJob
from serving.rollout.measuring import Ask, Measuring
from serving.rollout.sides import Underway

__all__ = ["MeasuringLoop"]

REPORT_S = 10.0  # seconds between two files
CLOSE_S = 5.0
MOST_WAITING = 100  # files that wait for the store; the oldest goes first


class MeasuringLoop:
    """Measures the rollout that is under way, if there is one. All methods but `close` are called in the event loop."""

    def __init__(
        self,
        store: Store,
        name: str,
        ask: Ask,
        *,
        tolerance_s: int = 0,
        on_failure: Callable[[str], None] = ignored,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._name, self._ask, self._tolerance_s, self._clock = store, name, ask, tolerance_s, clock
        self._worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._measuring: Measuring | None = None
        self._waiting: deque[tuple[int, int, Measured]] = deque(maxlen=MOST_WAITING)  # entry and number of each file
        self._number, self._taken, self._refused = 0, clock(), ""
        self._loop = BackgroundLoop("rollout", self._write, REPORT_S, last=self._write, on_failure=on_failure)
        self._loop.start()

    def observe(self, version: str, jobs: Mapping[int, RecommendJob], results: Mapping[int, object], cpu_s: float) -> None:
        """Note what a version answered to the jobs of a batch. `Measuring.observe` describes the arguments."""
        if self._measuring is not None:
            self._measuring.observe(version, jobs, results, cpu_s)

    def follow(self, underway: Underway | None, refused: str = "") -> None:
        """Measure a rollout, or none. What was measured is stored from time to time, and when the stage ends.

        Args:
            underway: The rollout that the worker acts on.
            refused: Why the worker does not serve the new version. Empty if it does.
        """
        self._refused = refused
        before = None if self._measuring is None else self._measuring.underway
        ended = before is not None and (underway is None or before.rollout.entry != underway.rollout.entry)
        if ended or self._clock() - self._taken >= REPORT_S:
            self._take()
        if underway is None:
            self._measuring = None
        elif before is None or ended:
            self._measuring = Measuring(underway, self._worker, self._ask, self._tolerance_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Store what is waiting. Give up after `timeout_s`."""
        self._take()
        self._loop.close(timeout_s)

    def _take(self) -> None:
        self._taken = self._clock()
        if self._measuring is not None and (found := self._measuring.take(self._refused)) is not None:
            self._number += 1
            self._waiting.append((self._measuring.underway.rollout.entry, self._number, found))
            self._loop.wake()

    def _write(self) -> bool:
        while self._waiting:
            entry, number, found = self._waiting[0]
            with suppress(AlreadyExistsError):  # an earlier attempt succeeded, but its response was lost
                write_measured(self._store, self._name, entry, found, number)
            if self._waiting and self._waiting[0][1] == number:
                self._waiting.popleft()
        return True
