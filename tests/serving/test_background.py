"""A background thread goes on whatever its step raises, reports it, and never keeps the process from ending."""

from __future__ import annotations

import threading
import time

import pytest

from serving import background
from serving.background import BackgroundLoop


def test_a_step_that_raises_or_fails_is_counted_and_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LEAST_S", 0.001)
    raised = [ValueError("a"), False, RecursionError(), MemoryError(), SystemExit("a plugin's last word")]
    steps, failures, well = iter(raised), [], threading.Event()

    def step() -> bool:
        found = next(steps, True)
        if isinstance(found, BaseException):
            raise found
        if found:
            well.set()
        return found

    loop = BackgroundLoop("checking", step, 0.001, on_failure=failures.append)
    loop.start()
    assert well.wait(60) and failures == ["checking"] * 5
    assert loop.close(60) and not loop.alive


def test_a_loop_waits_longer_after_each_failure_in_a_row_and_never_for_ever() -> None:
    loop = BackgroundLoop("checking", lambda: True, 0.1)
    assert [loop._pause_s(failures) for failures in (0, 1, 2, 3, 6, 10_000)] == [0.1, 1, 2, 4, 30, 30]
    assert BackgroundLoop("slow", lambda: True, 90)._pause_s(3) == 90


def test_the_last_step_runs_once_in_the_thread_even_if_it_was_waiting() -> None:
    done, begun = [], threading.Event()
    loop = BackgroundLoop(
        "checking", lambda: begun.set() is None, 3600, last=lambda: done.append(threading.current_thread().name)
    )
    loop.start()
    assert begun.wait(60) and loop.close(60) and done == ["checking"]


def test_closing_does_not_wait_for_a_step_that_hangs() -> None:
    begun, gate = threading.Event(), threading.Event()

    def step() -> bool:
        begun.set()
        return gate.wait(60)

    loop = BackgroundLoop("hanging", step, 1)
    loop.start()
    assert begun.wait(60)
    before = time.thread_time()
    assert not loop.close(0.05) and loop.closing and time.thread_time() - before < 5
    gate.set()
    assert loop.close(60)
