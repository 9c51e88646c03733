"""Runs uvicorn in this process, or in worker processes that a supervisor starts and watches."""

from __future__ import annotations

import sys
from socket import socket
from typing import Any

from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.server import Server
from uvicorn.supervisors import multiprocess

from infra.lifeline import end_with_parent
from serving.stopping import DrainingServer

__all__ = ["WorkerProcess", "run_server"]

GRACE_S = 60.0  # for the drain and requests in progress (`drain_s`, `shutdown_s`), and for events that Redis has not got yet


class WorkerProcess(multiprocess.Process):
    """A worker whose death ends every wait for its answer, and that ends if the supervisor is killed.

    The supervisor asks each worker in turn whether it is alive, and reads no signal meanwhile. It keeps a copy of the worker's end of
    their pipe, so that a worker killed between question and answer looks like a slow one: for the whole timeout it is not
    replaced, and a SIGTERM is not passed on to the other workers, whose unsent events are lost when the supervisor is killed.
    """

    def target(self, sockets: list[socket] | None = None) -> None:
        end_with_parent(GRACE_S)
        super().target(sockets)

    def start(self) -> None:
        super().start()
        self.child_conn.close()  # the worker has its own copy by now

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = DrainingServer(self.config)
        return self._server


class Supervisor(multiprocess.Multiprocess):
    """Uvicorn's supervisor. It gives its listening sockets up when it stops, so that they close with the last worker."""

    def terminate_all(self) -> None:
        super().terminate_all()
        for listener in self.sockets:
            listener.close()


def run_server(app: str, **options: Any) -> None:
    """Serve until a signal, as `uvicorn.run` does, but with a server that drains.

    Args:
        app: Where the factory of the application is, as `module:name`.
        options: Those of `uvicorn.Config`.
    """
    config = Config(app, **options)
    if config.workers > 1:
        multiprocess.Process = WorkerProcess  # type: ignore[misc]  # uvicorn has no setting for this
        config.load_app()
        Supervisor(config, [config.bind_socket()]).run()
        return
    server = DrainingServer(config)
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        sys.exit(STARTUP_FAILURE)
