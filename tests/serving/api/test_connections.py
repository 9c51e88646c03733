"""A worker's connections are bounded in number, time and bytes, whatever their clients do."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from configs.serving import LimitSettings
from serving.api import connections
from serving.api.connections import BoundedProtocol, Connections
from serving.metrics import Metrics
from serving.stopping import DRAINED

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LATE = {"receive_s": 0.3}


@dataclass
class Server:
    """An application that answers with the body that it read, on a server with bounds."""

    limits: LimitSettings
    port: int = 0
    bounds: Connections = field(init=False)
    seen: list[str] = field(default_factory=list)  # the types of the messages that the application got
    hold: threading.Event = field(default_factory=threading.Event)  # while it is clear, /hold is not answered
    held: int = 0  # requests of /hold that have arrived
    loop: asyncio.AbstractEventLoop = field(init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self.loop = asyncio.get_running_loop()
            self.bounds = scope["state"][DRAINED] = Connections(self.limits, Metrics())
            self.bounds.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.bounds.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/hold":
            self.held += 1
            await asyncio.to_thread(self.hold.wait, 600)
        body, more = b"", scope["path"] != "/unread"
        while more:
            message = await receive()
            self.seen.append(message["type"])
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/large":
            body = b"x" * (64 << 20)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the server's loop until the end of the block."""
        begun, over = threading.Event(), threading.Event()

        def pause() -> None:
            begun.set()
            over.wait()

        self.loop.call_soon_threadsafe(pause)
        begun.wait()
        try:
            yield
        finally:
            over.set()

    def closed(self, reason: str) -> float:
        return float(self.bounds.metrics.closed.labels(reason)._value.get())


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    monkeypatch.setattr(connections, "SWEEP_S", 0.02)
    ends: list[Callable[[], None]] = []

    def start(**limits: Any) -> Server:
        app = Server(LimitSettings(**limits))
        listening = socket.create_server(("127.0.0.1", 0))
        app.port = listening.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(app, http=BoundedProtocol, log_level="critical", timeout_graceful_shutdown=1, timeout_keep_alive=600)
        )
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()

        def end() -> None:
            app.hold.set()
            server.should_exit = True
            thread.join()
            listening.close()

        ends.append(end)
        while not server.started:
            time.sleep(0.01)
        return app

    yield start
    for end in ends:
        end()


def connect(server: Server, content: bytes = b"", *, at_once: bool = True) -> socket.socket:
    """Connect and send the content. With `at_once`, the server sees the connection only when all of it has arrived."""
    with server.paused() if at_once else nullcontext():
        connection = socket.create_connection(("127.0.0.1", server.port), 120)
        connection.sendall(content)
    return connection


def rest(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def answers(connection: socket.socket, count: int = 1) -> bytes:
    """Return what the server sends until it has sent `count` answers."""
    found = b""
    while found.count(b"HTTP/1.1 200") < count:
        part = connection.recv(1 << 16)
        assert part, found
        found += part
    return found


def check_problem(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"content-type: application/problem+json" in head and b"connection: close" in head
    problem = json.loads(body)
    assert problem["status"] == status and problem["detail"]
    assert problem["instance"].removeprefix("urn:request:").encode() in head


def test_a_request_that_does_not_arrive_in_time_gets_408(serve: Callable[..., Server]) -> None:
    server = serve(**LATE)
    for content in (GET[:-4], POST, POST + b"12345", CHUNKED + b"5\r\n12345\r\n"):
        check_problem(rest(connect(server, content)), 408)
    assert server.closed("late") == 4
    while server.seen.count("http.disconnect") < 3:  # the application notices a moment after its client
        time.sleep(0.01)
    assert b"200 OK" in answers(connect(server, GET))


def test_a_client_that_sends_a_little_at_a_time_gets_no_more_time(serve: Callable[..., Server]) -> None:
    server = serve(**LATE)
    for content in (GET[:-2], b"\r\n", POST):
        connection = connect(server, GET)
        answers(connection)
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 60:
                connection.sendall(content[:1])
                content = content[1:] or b"1" if content != b"\r\n" else content
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - begun < 60, "the connection stayed open"
    assert server.closed("late") == 3


def test_connections_that_send_nothing_are_closed_without_an_answer(serve: Callable[..., Server]) -> None:
    server = serve(**LATE)
    assert rest(connect(server)) == b"" and server.closed("silent") == 1


def test_the_server_does_not_wait_for_a_body_that_nobody_reads(serve: Callable[..., Server]) -> None:
    server = serve(**LATE)
    connection = connect(server, POST.replace(b"/ ", b"/unread ", 1) + b"12345")
    assert rest(connection).startswith(b"HTTP/1.1 200") and server.closed("late") == 1


def test_a_client_that_does_not_read_its_answer_is_cut_off(serve: Callable[..., Server]) -> None:
    server = serve(**LATE)
    connection = connect(server, GET.replace(b"/ ", b"/large ", 1))
    end = time.monotonic() + 120
    while server.closed("unread") == 0 and time.monotonic() < end:
        time.sleep(0.02)
    assert server.closed("unread") == 1
    connection.close()


@pytest.mark.parametrize(
    "content",
    [
        b"GET /" + b"a" * 3000,
        GET[:-2] + b"a: b\r\n" * 600,
        GET[:-2] + b"a: " + b"b" * 40_000,
        b"GET / HTTP/1.1\r\n" + b"a" * 3000,
    ],
    ids=["address", "many headers", "long header", "long name"],
)
def test_long_headers_get_431(serve: Callable[..., Server], content: bytes) -> None:
    server = serve(head_bytes=2048)
    check_problem(rest(connect(server, content)), 431)
    assert server.seen == []


def test_framing_without_content_is_refused(serve: Callable[..., Server]) -> None:
    server = serve(head_bytes=2048)
    for content in (b"1;%b\r\nx\r\n" % (b"a" * 9000), b"0\r\na: %b" % (b"b" * 9000), b"0\r\n" + b"a: b\r\n" * 1500):
        check_problem(rest(connect(server, CHUNKED + content)), 400)
    assert server.closed("chunks") == 3


def test_trailers_are_ignored(serve: Callable[..., Server]) -> None:
    connection = connect(serve(), CHUNKED + b"5\r\nabcde\r\n0\r\nx-key: b\r\n\r\n" + GET)
    assert b"abcde" in answers(connection, 2)


def test_bytes_that_are_not_http_get_a_problem_response(serve: Callable[..., Server]) -> None:
    check_problem(rest(connect(serve(), b"\x16\x03\x01\x02\x00")), 400)


def test_the_longest_idle_connection_gives_way_to_a_new_one(serve: Callable[..., Server]) -> None:
    server = serve(connections=3)
    opened = []
    for _ in range(3):  # one after the other, so that they become idle in this order
        opened.append(connect(server, GET))
        answers(opened[-1])
    first, second, third = opened
    first.sendall(GET)
    answers(first)  # now the second one has been idle for longest
    fourth = connect(server, GET)
    assert b"200 OK" in answers(fourth) and rest(second) == b"" and server.closed("idle") == 1
    for connection in (first, third, fourth):
        connection.sendall(GET)
        assert b"200 OK" in answers(connection)


def test_no_request_in_progress_is_dropped_for_a_new_connection(serve: Callable[..., Server]) -> None:
    server = serve(connections=2)
    busy = [connect(server, GET.replace(b"/ ", b"/hold ", 1)) for _ in range(2)]
    while server.held < 2:
        time.sleep(0.01)
    check_problem(rest(connect(server, GET)), 503)
    server.hold.set()
    for connection in busy:
        assert b"200 OK" in answers(connection)
    assert b"200 OK" in answers(connect(server, GET))


def test_only_a_few_requests_may_be_sent_in_advance_and_those_are_answered(serve: Callable[..., Server]) -> None:
    server = serve()
    assert answers(connect(server, GET * 5), 5)
    found = rest(connect(server, GET * 1000))
    assert 1 <= found.count(b"HTTP/1.1 200") <= connections.PIPELINED + 1 and b"HTTP/1.1 400" not in found


def test_large_bodies_and_upgrades_are_served(serve: Callable[..., Server]) -> None:
    server = serve()
    content = bytes(range(256)) * 4096
    head = POST.replace(b"10", str(len(content)).encode())
    connection = connect(server, head + content + GET, at_once=False)  # more than a socket's buffer holds
    found = b""
    while found.count(b"HTTP/1.1 200") < 2:
        found += connection.recv(1 << 20)
    assert content in found
    upgrade = connect(server, GET[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
    assert b"200 OK" in answers(upgrade)
