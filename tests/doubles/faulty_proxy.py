"""A network that is slow, drops connections, or swallows everything: a TCP proxy between a client and a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

__all__ = ["FaultyProxy", "faulty_proxy"]

CHUNK = 1 << 16


@dataclass
class FaultyProxy:
    """Its faults can be changed while it runs."""

    server: tuple[str, int]
    port: int
    bytes_per_s: float | None = None  # of each connection and direction
    delay_s: float = 0.0  # before each piece of an answer
    drip_s: float | None = None  # between two bytes of an answer
    drop_after: int | None = None  # bytes of one connection, both directions together, after which it is reset
    drops: int | None = None  # how many connections are dropped in this way; None: all
    swallow: bool = False  # connections are accepted and never answered
    connections: int = 0
    dropped: int = 0
    _open: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def may_drop(self) -> bool:
        """Return whether to drop one more connection. If so, count it."""
        with self._lock:
            if self.drops is not None and self.dropped >= self.drops:
                return False
            self.dropped += 1
            return True


@contextmanager
def faulty_proxy(url: str) -> Iterator[FaultyProxy]:
    """Run a proxy in front of the server at `url`, http://host:port. At first it has no faults."""
    host, _, port = url.removeprefix("http://").partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = FaultyProxy((host, int(port)), listener.getsockname()[1])
    threading.Thread(target=_accept, args=(listener, proxy), daemon=True).start()
    try:
        yield proxy
    finally:
        listener.close()
        for each in proxy._open:
            each.close()


def _accept(listener: socket.socket, proxy: FaultyProxy) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            proxy.connections += 1
            proxy._open.append(client)
            if proxy.swallow:
                continue
            server = socket.create_connection(proxy.server)
            proxy._open.append(server)
            passed = _Passed()
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(source, sink, passed, proxy, source is server), daemon=True).start()


@dataclass
class _Passed:
    amount: int = 0
    reset: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


def _pump(source: socket.socket, sink: socket.socket, passed: _Passed, proxy: FaultyProxy, answers: bool) -> None:
    try:
        while data := source.recv(CHUNK):
            with passed.lock:
                passed.amount += len(data)
                over = proxy.drop_after is not None and passed.amount > proxy.drop_after
            if over and proxy.may_drop():
                passed.reset = True
                for each in (source, sink):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an orderly end
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RD)  # the other thread waits for this socket, and would keep it open
                    each.close()
                return
            if proxy.bytes_per_s:
                time.sleep(len(data) / proxy.bytes_per_s)
            if answers and proxy.delay_s:
                time.sleep(proxy.delay_s)
            while answers and data and (pause := proxy.drip_s) is not None:
                sink.sendall(data[:1])
                data = data[1:]
                time.sleep(pause)
            sink.sendall(data)
        if not passed.reset:
            sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):
            each.close()
