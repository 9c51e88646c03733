"""A server that stops answers everybody who is connected, says that it goes, and lets nobody else connect."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from configs.serving import ServingSettings
from serving.api.app import create_app
from serving.api.connections import BoundedProtocol
from serving.stopping import DrainingServer, admit_nobody


@contextmanager
def served(folder: Path, drain_s: float) -> Iterator[tuple[DrainingServer, int, threading.Thread]]:
    """Run a server without a model in a thread. Yields the server, its port and the thread."""
    settings = ServingSettings.model_validate(
        {"store": {"url": f"file:{folder}/store"}, "work_dir": str(folder / "work"), "drain_s": drain_s, "log_requests": False}
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = DrainingServer(uvicorn.Config(create_app(settings), http=BoundedProtocol, log_config=None))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server, listening.getsockname()[1], thread
    finally:
        stop(server, signal.SIGINT)
        thread.join()


def stop(server: DrainingServer, number: signal.Signals) -> None:
    server.handle_exit(number, None)
    server._captured_signals = [number]  # a thread cannot raise them again


def test_a_draining_server_says_that_it_is_not_ready_answers_and_closes_each_connection(tmp_path: Path) -> None:
    with served(tmp_path, drain_s=3600) as (server, port, thread):
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        kept.request("GET", "/healthz")
        before = kept.getresponse()
        assert before.read() and before.status == 200 and not before.will_close
        stop(server, signal.SIGTERM)
        while (found := asked(port, "/readyz"))[1] != b"This server is about to stop.":
            time.sleep(0.01)
        assert found[0] == 503
        kept.request("GET", "/healthz")
        during = kept.getresponse()
        assert during.status == 200 and during.headers["connection"] == "close", "its connection does not end cleanly"
        assert thread.is_alive()
        server._captured_signals.append(signal.SIGINT)  # the person does not want to wait
        thread.join(600)
        assert not thread.is_alive()
        server._captured_signals.clear()


@pytest.mark.parametrize(("number", "drain_s"), [(signal.SIGINT, 3600.0), (signal.SIGTERM, 0.0)])
def test_a_server_at_a_terminal_or_without_a_proxy_stops_at_once(number: signal.Signals, drain_s: float, tmp_path: Path) -> None:
    with served(tmp_path, drain_s) as (server, port, thread):
        stop(server, number)
        thread.join(600)
        assert not thread.is_alive()
        server._captured_signals.clear()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 60)


def test_a_connection_that_waits_to_be_accepted_is_kept_and_a_later_one_is_not_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        early = socket.create_connection(listening.getsockname(), 60)
        admit_nobody(listening.fileno())
        with pytest.raises(TimeoutError):
            socket.create_connection(listening.getsockname(), 0.2)
        early.sendall(b"request")
        accepted, _ = listening.accept()
        assert accepted.recv(100) == b"request"
        accepted.sendall(b"response")
        assert early.recv(100) == b"response"
        listening.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listening.accept()
        for each in (early, accepted):
            each.close()


def asked(port: int, path: str) -> tuple[int, bytes]:
    """Return the status and the detail of a problem."""
    import json

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    found = json.loads(response.read())
    connection.close()
    return response.status, str(found.get("detail", "")).encode()
