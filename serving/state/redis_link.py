"""One connection to Redis. A whole call has one deadline, however slowly its bytes arrive.

redis-py's socket timeout starts again with each byte that is received, and looking up a name has no timeout at all. Its client also
takes longer for a call than Redis itself. So commands go straight to one of its connections, whose socket keeps the deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis import connection as redis_connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.tracing import SpanKind, current_span, span
from serving.state.redis_faults import FAULTS, harms_one_user

__all__ = ["Command", "RedisLink"]

Command = tuple[bytes | str | int, ...]
OF_A_POOL = ("max_connections", "timeout")  # options that a URL may contain and that are not a connection's
NEWEST_WEIGHT = 0.2  # of the last call in the mean of the latest calls


class RedisLink:
    """Sends commands and returns their replies. It connects when needed, and again after an error.

    `mean_s` is the mean time of the latest calls. It does not include the time to connect.
    """

    def __init__(self, url: str, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s, self._clock = timeout_s, clock
        self._until: float | None = None
        parse: Any = redis_connection.parse_url
        options = {name: value for name, value in parse(url).items() if name not in OF_A_POOL}
        base = options.pop("connection_class", redis_connection.Connection)
        self._kind: Any = type(base.__name__, (_Deadlined, base), {})
        self._options = options | {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "decode_responses": False,
        }
        self._connection: Any = None
        self.mean_s = 0.0

    def start_call(self, seconds: float | None = None) -> None:
        """Give all commands until `end_call` these seconds together, by default the timeout."""
        self._until = self._clock() + (self._timeout_s if seconds is None else seconds)

    def end_call(self) -> None:
        self._until = None

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands at once, and return their replies. A fault of one user's data, or NOSCRIPT, is returned as a reply.

        Raises:
            redis.RedisError: Redis did not answer in time, or it cannot serve anybody.
            OSError: The connection failed.
        """
        if current_span() is None:  # not on behalf of a request that is traced
            return self._sent(commands)
        names = {name.decode() if isinstance(name, bytes) else str(name) for name, *_ in commands}
        with span(
            "redis",
            {"db.system.name": "redis", "db.operation.name": " ".join(sorted(names)), "db.operation.batch.size": len(commands)},
            kind=SpanKind.CLIENT,
        ):
            return self._sent(commands)

    def _sent(self, commands: Sequence[Command]) -> list[Any]:
        alone = self._until is None
        if alone:
            self.start_call()
        try:
            connection = self._connected()
            started = self._clock()
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            replies: list[Any] = []
            outage: Exception | None = None
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
                    if not isinstance(error, redis.exceptions.NoScriptError) and not harms_one_user(error):
                        outage = outage or error
            self.mean_s += NEWEST_WEIGHT * (self._clock() - started - self.mean_s)
            if outage is not None:
                raise outage
            return replies
        except BaseException:
            self.close()
            raise
        finally:
            if alone:
                self.end_call()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def left_s(self) -> float:
        """Return the seconds until the deadline of the call; 0 if it has passed."""
        return max(0.0, (self._until or 0.0) - self._clock())

    def _connected(self) -> Any:
        if self._connection is not None:
            try:
                closed = self._connection.can_read(0)  # the server has closed it, or sent what nobody asked for
            except FAULTS:
                closed = True
            if not closed:
                return self._connection
            self.close()
        self._connection = self._connect()
        return self._connection

    def _connect(self) -> Any:
        """Return a new connection. A thread makes it, because looking up a name can take longer than any timeout."""
        connection = self._kind(**self._options)
        connection.left_s = self.left_s
        failed: list[BaseException] = []

        def connect() -> None:
            try:
                connection.connect()
            except BaseException as error:  # raised again below, in the thread that waits
                failed.append(error)

        thread = threading.Thread(target=connect, name="redis-connect", daemon=True)
        thread.start()
        thread.join(self.left_s())
        if thread.is_alive():
            raise redis.TimeoutError("Timeout connecting to server")
        if failed:
            raise failed[0]
        return connection


class _Deadlined:
    """A mixin for connections of redis-py: their sockets keep the deadline of the link's call."""

    left_s: Callable[[], float]

    def _connect(self) -> _Socket:
        made: Any = super()
        return _Socket(made._connect(), self.left_s)


class _Socket:
    """A socket whose operations end at a deadline. Bytes that have already arrived can still be read after it."""

    def __init__(self, wrapped: Any, left_s: Callable[[], float]) -> None:
        self._socket, self._left_s = wrapped, left_s
        self._at_once = False
        self.fileno = wrapped.fileno

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        """Ignore the timeout of a single operation, unless it is 0: some parsers look in this way whether there is something to read."""
        self._at_once = seconds == 0

    def sendall(self, data: bytes) -> None:
        self._in_time(self._socket.sendall, data)

    def recv_into(self, buffer: bytearray) -> int:
        received: int = self._in_time(self._socket.recv_into, buffer)
        return received

    def recv(self, *arguments: int) -> bytes:
        received: bytes = self._in_time(self._socket.recv, *arguments)
        return received

    def _in_time(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        left = 0.0 if self._at_once else self._left_s()
        self._socket.settimeout(left)  # 0: do not wait
        try:
            return operation(*arguments)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
