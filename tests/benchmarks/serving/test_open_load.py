"""The generator of a steady load tells the truth about servers that stall, refuse or hang up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace

import pytest

from benchmarks.pauses import measure_pauses
from benchmarks.serving import open_load
from benchmarks.serving.open_load import http_request, send_at_rate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def server(answer: Callable[[int], bytes | None], hung_up: threading.Event | None = None) -> Iterator[int]:
    """Answer request number n, from 0, with `answer(n)`. If that is None, hang up at once; if it is empty, answer and hang up.

    `hung_up` is set once the server has hung up.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    numbers, one_at_a_time = count(), threading.Lock()

    def talk(connection: socket.socket) -> None:
        with connection:
            while connection.recv(4096):
                with one_at_a_time:
                    content = answer(next(numbers))
                if content is not None:
                    connection.sendall(content or OK)
                if not content:
                    break
        if hung_up is not None:
            hung_up.set()

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()


def request() -> bytes:
    return http_request("/v1/recommendations", b"{}")


def test_the_latency_of_a_request_includes_its_wait_for_a_stalled_server(monkeypatch: pytest.MonkeyPatch) -> None:
    stalled_s = 0.0

    def stalls(number: int) -> bytes:
        nonlocal stalled_s
        if number == 10:
            stalled_s = 1000.0
        return OK

    # The clock jumps instead of a sleep, so the load is sent at once, and a busy machine adds too little to matter.
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + stalled_s)
    monkeypatch.setattr(open_load, "time", clock)
    with server(stalls) as port:
        found = send_at_rate(port, request, rate=1000, seconds=0.1, connections=4, seed=1)
    assert len(found.latencies) == 100 and found.failed == 0
    # A closed loop of four connections would count at most four slow answers. The answers to three of the first ten requests may
    # still be on their way when the clock jumps.
    assert 90 <= (found.latencies > 900).sum() <= 93 and found.ms(100) > 900_000
    assert found.rate < 100 / 900


def test_answers_other_than_2xx_are_failures() -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
    with server(lambda number: refusal if number % 2 else OK) as port:
        found = send_at_rate(port, request, rate=500, seconds=0.1, connections=2, seed=1)
    assert len(found.latencies) == 50 and found.failed == 25


def test_an_idle_connection_may_be_closed_and_a_waiting_one_may_not() -> None:
    hung_up, asked = threading.Event(), count()

    def late_request() -> bytes:
        if next(asked) == 1:  # the first request has been sent, and its answer has not been read
            assert hung_up.wait(60)
        return request()

    with server(lambda number: b"" if number == 0 else OK, hung_up) as port:
        found = send_at_rate(port, late_request, rate=100_000, seconds=0.0002, connections=3, seed=1)
    assert len(found.latencies) == 20 and found.failed == 0
    with server(lambda number: None) as port, pytest.raises(ConnectionError, match=str(port)):
        send_at_rate(port, request, rate=100, seconds=0.2, connections=1, seed=1)


def test_pauses_are_a_share_of_the_time() -> None:
    began = time.perf_counter()
    found = measure_pauses(0.05)
    elapsed = time.perf_counter() - began
    lost_s = found.lost_share * 0.05
    # The last pause may outlast the requested time, but not the call.
    assert 0 <= lost_s <= elapsed and 0 <= found.longest_ms <= lost_s * 1000 + 0.1
