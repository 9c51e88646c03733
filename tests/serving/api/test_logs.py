"""The request log writes JSON lines in batches, is bounded, and never delays a request."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import threading
import time

import pytest

from serving import background
from serving.api import logs
from serving.api.logs import RequestLog


def test_log_lines_are_json_and_are_written_in_batches_or_at_the_latest_on_closing() -> None:
    stream = io.StringIO()
    log = RequestLog(stream)
    log.write({"request": "a", "ms": 1})
    log.write({"request": "b"})
    log.close()
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [{"request": "a", "ms": 1}, {"request": "b"}]


class Failing(io.StringIO):
    """A stream whose first writes fail."""

    def __init__(self, *faults: Exception) -> None:
        super().__init__()
        self.faults = list(faults)

    def write(self, text: str) -> int:
        if self.faults:
            raise self.faults.pop(0)
        return super().write(text)


def test_a_line_that_cannot_be_written_is_counted_and_does_not_end_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FLUSH_S", 0.001)
    monkeypatch.setattr(background, "LEAST_S", 0.001)
    codes = (errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EAGAIN)
    errors = [*(OSError(code, os.strerror(code)) for code in codes), ValueError("I/O operation on closed file"), MemoryError()]
    stream, dropped, failures = Failing(*errors), list[int](), list[str]()
    log = RequestLog(stream, on_dropped=dropped.append, on_failure=failures.append)
    number = 0
    while before := len(stream.faults):  # one line for each error
        log.write({"number": (number := number + 1)})
        while len(stream.faults) == before:
            time.sleep(0.001)
    while len(failures) < len(errors):
        time.sleep(0.001)
    log.write({"number": 0})
    log.close()
    assert json.loads(stream.getvalue()) == {"number": 0}
    assert sum(dropped) == len(errors) and failures == ["request-log"] * len(errors)


def test_lines_that_cannot_be_written_are_dropped_beyond_a_bound_and_never_keep_the_server_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "MOST_LINES", 10)
    monkeypatch.setattr(logs, "CLOSE_S", 0.05)
    gate, begun, dropped = threading.Event(), threading.Event(), list[int]()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            begun.set()
            gate.wait(60)
            return super().write(text)

    log = RequestLog(Stuck(), on_dropped=dropped.append)
    log.write({"number": 0})
    assert begun.wait(60)
    for number in range(1, 31):
        log.write({"number": number})
    assert sum(dropped) == 20
    log.close()
    assert sum(dropped) == 30
    gate.set()


def test_a_log_line_that_arrives_while_others_are_written_is_not_lost() -> None:
    stream = io.StringIO()
    log = RequestLog(stream)
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            log._flush()

    flushing = threading.Thread(target=flush)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        flushing.start()
        for number in range(20_000):
            log.write({"request": number})
    finally:
        sys.setswitchinterval(before)
        stop.set()
        flushing.join()
    log.close()
    assert sorted(json.loads(line)["request"] for line in stream.getvalue().splitlines()) == list(range(20_000))
