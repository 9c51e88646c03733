"""A thread that repeats one step until it is closed, whatever the step raises."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["BackgroundLoop", "ignored"]

logger = logging.getLogger(__name__)
LEAST_S = 1.0  # first wait after a failure
MOST_S = 30.0  # longest wait after failures in a row


def ignored(name: str) -> None:
    """Count a failure nowhere."""


class BackgroundLoop:
    """Repeats `step` in a daemon thread.

    A step fails if it raises or returns False. Every failure is counted with `on_failure(name)`, and an exception is logged, too. The
    loop goes on, and waits longer after each failure in a row. `last` runs once, in the same thread, after the last step.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        every_s: float,
        *,
        last: Callable[[], object] = lambda: None,
        on_failure: Callable[[str], None] = ignored,
        most_s: float = MOST_S,
    ) -> None:
        """Create the loop without starting it.

        Args:
            name: Of the thread, and of the loop in logs and metrics.
            step: What is repeated.
            every_s: Seconds between two steps.
            last: Runs once, after the last step.
            on_failure: Is called with the loop's name after each failure.
            most_s: Longest wait in seconds after failures in a row.
        """
        self.name, self._most_s = name, most_s
        self._step, self._every_s, self._last, self._on_failure = step, every_s, last, on_failure
        self._closing, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def closing(self) -> bool:
        """Whether the loop is to end. A long step ends early then."""
        return self._closing.is_set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Let the next step begin now."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the loop to end, without waiting for it."""
        self._closing.set()
        self._wake.set()

    def close(self, timeout_s: float) -> bool:
        """Ask the loop to end, and wait for its last step. Return False if it has not ended in time."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            failures = 0 if self._succeeds(self._step) else failures + 1
            self._wake.wait(self._pause_s(failures))
            self._wake.clear()
        self._succeeds(self._last)

    def _succeeds(self, step: Callable[[], object]) -> bool:
        try:
            if step() is not False:
                return True
        except (Exception, SystemExit):  # the thread's last resort: nothing else would ever start it again
            logger.exception("%s failed and is tried again", self.name)
        self._on_failure(self.name)
        return False

    def _pause_s(self, failures: int) -> float:
        if not failures:
            return self._every_s
        return max(self._every_s, min(self._most_s, max(self._every_s, LEAST_S) * 2.0 ** min(failures - 1, 10)))
