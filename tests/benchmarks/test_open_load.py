"""The generator of a steady load tells the truth about servers that stall, refuse or hang up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from benchmarks.serving.open_load import http_request, send_at_rate
from benchmarks.serving.pauses import measure_pauses

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def server(answer: Callable[[int], bytes | None]) -> Iterator[int]:
    """Answer request number n, from 0, with `answer(n)`. If that is None, hang up at once; if it is empty, answer and hang up."""
    listening = socket.create_server(("127.0.0.1", 0))
    numbers, one_at_a_time = count(), threading.Lock()

    def talk(connection: socket.socket) -> None:
        with connection:
            while connection.recv(4096):
                with one_at_a_time:
                    content = answer(next(numbers))
                if content is None:
                    return
                connection.sendall(content or OK)
                if not content:
                    return

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


def test_the_latency_of_a_request_includes_its_wait_for_a_stalled_server() -> None:
    def stalls(number: int) -> bytes:
        if number == 10:
            time.sleep(0.4)
        return OK

    with server(stalls) as port:
        found = send_at_rate(port, request, rate=200, seconds=0.5, connections=4, seed=1)
    assert len(found.latencies) == 100 and found.failed == 0
    # A closed loop of four connections would count four slow answers.
    assert (found.latencies > 0.1).sum() > 20 and found.ms(100) >= 390


def test_answers_other_than_2xx_are_failures() -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
    with server(lambda number: refusal if number % 2 else OK) as port:
        found = send_at_rate(port, request, rate=500, seconds=0.1, connections=2, seed=1)
    assert len(found.latencies) == 50 and found.failed == 25 and found.rate > 0


def test_an_idle_connection_may_be_closed_and_a_waiting_one_may_not() -> None:
    with server(lambda number: b"" if number == 0 else OK) as port:
        assert send_at_rate(port, request, rate=100, seconds=0.2, connections=3, seed=1).failed == 0
    with server(lambda number: None) as port, pytest.raises(ConnectionError, match=str(port)):
        send_at_rate(port, request, rate=100, seconds=0.2, connections=1, seed=1)


def test_pauses_are_a_share_of_the_time() -> None:
    began = time.perf_counter()
    found = measure_pauses(0.05)
    elapsed = time.perf_counter() - began
    lost_s = found.lost_share * 0.05
    # The last pause may outlast the requested time, but not the call.
    assert 0 <= lost_s <= elapsed and 0 <= found.longest_ms <= lost_s * 1000 + 0.1
