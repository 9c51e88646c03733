"""Ports for servers that a test starts as processes."""

from __future__ import annotations

import socket

__all__ = ["reserved_port"]

RESERVED: list[socket.socket] = []


def reserved_port() -> int:
    """Return a port on 127.0.0.1 that no other process gets until this one ends.

    A socket stays bound to it. The server can bind to it too, because both set SO_REUSEADDR and this socket does not listen.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    RESERVED.append(reserved)
    port: int = reserved.getsockname()[1]
    return port
