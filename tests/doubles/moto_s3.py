"""moto's S3 server, with requests answered one at a time.

moto first checks whether a key exists and then writes it, so two of several concurrent conditional creates may succeed. S3 decides
them one after the other, and so does this server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import ThreadedMotoServer

__all__ = ["moto_s3"]

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@contextmanager
def moto_s3() -> Iterator[str]:
    """Run a server and yield its endpoint URL."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    running = server._server
    assert running is not None
    running.app = _one_at_a_time(running.app)
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def _one_at_a_time(application: Application) -> Application:
    lock = threading.Lock()

    def answer(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with lock:
            return application(environment, start_response)

    return answer
