"""A server that stops without losing a request: it drains before it closes its listening sockets."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import struct
import sys
from typing import Protocol

from uvicorn.server import Server

__all__ = ["DRAINED", "DrainingServer", "admit_nobody"]

logger = logging.getLogger(__name__)
DRAINED = "connections"  # key in the lifespan's state: what drains
LOOK_S = 0.1
SETTLE_S = 0.1  # for connections that the kernel has completed and the event loop has not accepted yet
SO_ATTACH_FILTER = 26  # Linux; the socket module does not name it
# A filter in classic BPF that drops a TCP segment if its flag SYN is set: (code, jump if true, jump if false, operand).
NO_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # pass all of it
)


class Draining(Protocol):
    """What the application puts into its lifespan's state, so that the server can drain it."""

    drain_s: float

    def drain(self) -> None:
        """Say that the server is not ready, and close each connection after its next response."""


class DrainingServer(Server):
    """Uvicorn's server. After SIGTERM it goes on answering for a while, and then stops.

    Meanwhile `/readyz` answers 503 and each response closes its connection, so load balancers send requests elsewhere. SIGINT ends the
    wait: a person at a terminal does not want to wait.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._captured_signals[:1] == [signal.SIGTERM]:
            await self._drain(self.lifespan.state.get(DRAINED))
        if not self.force_exit:
            await self._settle()
        await super().shutdown(sockets)

    async def _drain(self, drained: Draining | None) -> None:
        if drained is None:
            return
        drained.drain()
        clock = asyncio.get_running_loop().time
        end = clock() + drained.drain_s
        while clock() < end and signal.SIGINT not in self._captured_signals:
            await asyncio.sleep(min(LOOK_S, drained.drain_s))

    async def _settle(self) -> None:
        """Let nobody connect any more, and accept those who are connected.

        Closing a listening socket resets the connections that wait in its queue, and a client cannot know whether its request was
        processed. With the filter, a client that is too late gets no connection, so it or its proxy can safely try another server.
        """
        for server in self.servers:
            for listener in server.sockets:
                admit_nobody(listener.fileno())
        await asyncio.sleep(SETTLE_S)


def admit_nobody(listener: int) -> None:
    """Let the kernel drop each attempt to connect to a listening socket, given its descriptor. Only Linux can do this."""
    if not sys.platform.startswith("linux"):
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in NO_SYN))
    with socket.socket(fileno=os.dup(listener)) as same:  # uvloop's sockets take no options
        try:
            same.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(NO_SYN), ctypes.addressof(program)))
        except OSError as error:
            logger.warning("connections that come in while the server stops may be lost", extra={"reason": str(error)})
