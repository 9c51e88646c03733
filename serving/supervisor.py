"""The processes that uvicorn's supervisor starts and watches."""

from __future__ import annotations

from socket import socket

from uvicorn.supervisors import multiprocess

from infra.lifeline import end_with_parent

__all__ = ["WorkerProcess", "notice_dead_workers"]

GRACE_S = 60.0  # for requests in progress (`shutdown_s`), and for events that Redis has not got yet


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


def notice_dead_workers() -> None:
    """Let uvicorn's supervisor start `WorkerProcess` processes. It has no setting for this."""
    multiprocess.Process = WorkerProcess  # type: ignore[misc]
