"""An open load at a steady rate: requests arrive by a Poisson process, whether or not earlier ones have been answered.

The latency of a request counts from the moment it was due. A server that stalls is therefore charged for every request that had
to wait. A closed loop, in which each connection waits for an answer before it asks again, misses those requests. The generator
uses plain sockets and one thread. It costs about 50 us of CPU per request, on the same machine that it measures.
"""

from __future__ import annotations

import select
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Measured", "http_request", "send_at_rate"]


@dataclass(frozen=True, eq=False)
class Measured:
    """The outcome of a load."""

    latencies: npt.NDArray[np.float64]  # (n,) seconds from the due moment to the answer
    failed: int  # requests not answered with 2xx
    seconds: float  # from the first due moment to the last answer

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def ms(self, percent: float) -> float:
        """Return a percentile of the latency in milliseconds."""
        return float(np.percentile(self.latencies, percent) * 1000)


def http_request(path: str, body: bytes) -> bytes:
    """Return a POST of JSON for a keep-alive connection."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def send_at_rate(
    port: int, next_request: Callable[[], bytes], *, rate: float, seconds: float, connections: int, seed: int
) -> Measured:
    """Send `rate` requests per second to 127.0.0.1:`port` for `seconds`, and wait for all answers.

    If all connections are busy, a request waits for a free one.

    Raises:
        ConnectionError: the server closes a connection instead of answering.
    """
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, round(rate * seconds)))
    selector = selectors.DefaultSelector()
    free = deque(_connect(port, selector) for _ in range(connections))
    pending: dict[socket.socket, tuple[float, bytearray]] = {}
    waiting: deque[float] = deque()
    latencies: list[float] = []
    failed, sent, begin = 0, 0, time.perf_counter()
    prepared = next_request()
    try:
        while len(latencies) < len(due):
            now = time.perf_counter() - begin
            while sent < len(due) and due[sent] <= now:
                waiting.append(float(due[sent]))
                sent += 1
            while waiting and free:
                connection = free.popleft()
                if _closed(connection):
                    connection = _connected_again(connection, port, selector)
                pending[connection] = (waiting.popleft(), bytearray())
                connection.sendall(prepared)
                prepared = next_request()
            until = due[sent] - (time.perf_counter() - begin) if sent < len(due) else 1.0
            for key, _ in selector.select(max(float(until), 0.0)):
                connection = key.fileobj  # type: ignore[assignment]
                content = connection.recv(1 << 16)
                if not content:
                    if connection in pending:
                        raise ConnectionError(f"The server at port {port} closed a connection that was waiting for an answer.")
                    free.remove(connection)
                    free.append(_connected_again(connection, port, selector))
                    continue
                when, answer = pending[connection]
                answer += content
                if _whole(answer):
                    latencies.append(time.perf_counter() - begin - when)
                    failed += not answer.startswith(b"HTTP/1.1 2")
                    del pending[connection]
                    free.append(connection)
        return Measured(np.array(latencies), failed, time.perf_counter() - begin - float(due[0]))
    finally:
        selector.close()
        for connection in [*free, *pending]:
            connection.close()


def _connect(port: int, selector: selectors.BaseSelector) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(connection, selectors.EVENT_READ)
    return connection


def _closed(connection: socket.socket) -> bool:
    """Return whether the server has closed an idle connection. It sends nothing else there."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _connected_again(connection: socket.socket, port: int, selector: selectors.BaseSelector) -> socket.socket:
    """Replace a connection that the server closed because it was idle for too long."""
    selector.unregister(connection)
    connection.close()
    return _connect(port, selector)


def _whole(answer: bytearray) -> bool:
    """Return whether an answer with a Content-Length has arrived completely."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    lower = bytes(answer[:head]).lower()
    place = lower.find(b"content-length:")
    length = int(lower[place + 15 :].split(b"\r\n", 1)[0])
    return len(answer) >= head + 4 + length
