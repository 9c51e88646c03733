"""The ports that servers listen on: one that is taken is refused at once, and an address is told when it answers."""

from __future__ import annotations

import errno
import http.client
import socket
import threading
import time
from collections.abc import Callable

from configs.errors import SettingsError

__all__ = ["check_port", "tell_when_it_answers"]

ASK_S = 0.2
ANSWER_S = 5.0


def check_port(host: str, port: int) -> None:
    """Make sure that a server can listen on a port. Nothing is listening there afterwards.

    Raises:
        SettingsError: Another program listens there, this user may not, or the host is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: the last connections may linger
            listening.bind(address)
            listening.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"Port {port} of {host} is used by another program. Stop it, or choose another port with --port."
            ) from None
        if error.errno == errno.EACCES:
            raise SettingsError(f"This user may not listen on port {port}. Choose one above 1023 with --port.") from None
        raise SettingsError(
            f"Nothing can listen on {host} ({error.strerror or error}). Set host to an address of this machine, such as 127.0.0.1."
        ) from None


def tell_when_it_answers(host: str, port: int, path: str, tell: Callable[[], None]) -> None:
    """Call `tell` as soon as a server answers at `path` with 200, from a thread that ends with this process."""
    threading.Thread(target=_ask, args=(host, port, path, tell), name="address", daemon=True).start()


def _ask(host: str, port: int, path: str, tell: Callable[[], None]) -> None:
    to = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while True:
        connection = http.client.HTTPConnection(to, port, timeout=ANSWER_S)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                break
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(ASK_S)
    tell()
