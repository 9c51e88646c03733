"""Raises a library's errors: each class that the library may raise, at each kind of call, for as long as a test wants.

`wrap` puts the injector around a function of the library. The library's own code runs before or after it, so what a test sees is
what the product does when the library fails there.
"""

from __future__ import annotations

import errno
import inspect
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

__all__ = ["OS_ERRORS", "FaultInjector", "exceptions_of"]

# What any call may raise because of the operating system or the network.
OS_ERRORS: tuple[Exception, ...] = (
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENETUNREACH, "Network is unreachable"),
    TimeoutError("timed out"),
    socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
    ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed"),
    ssl.SSLCertVerificationError(1, "certificate verify failed"),
)


def exceptions_of(module: ModuleType, built: Mapping[str, Callable[[type[Any]], Exception]] | None = None) -> list[Exception]:
    """Return one instance of each exception class in the module.

    Args:
        module: The module of exceptions of a library.
        built: How to create an instance, by the name of the class. By default, from one message.
    """
    kinds = [kind for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, Exception)]
    return [(built or {}).get(kind.__name__, lambda kind: kind("injected"))(kind) for kind in dict.fromkeys(kinds)]


class FaultInjector:
    """Raises `error` at calls of the kinds that `raising` names. `raised` counts them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._error: Exception | None = None
        self._kinds: frozenset[str] = frozenset()
        self.raised: Counter[str] = Counter()

    def wrap(self, owner: Any, name: str, kind_of: Callable[..., str | None], *, after: bool = False) -> None:
        """Put the injector before or after the function `name` of a class or module.

        Args:
            owner: The class or module.
            name: The function.
            kind_of: Returns the kind of a call from its arguments, or None for a call that never fails.
            after: Raise when the function has done its work. Its result is lost.
        """
        function = getattr(owner, name)

        def injected(*args: Any, **kwargs: Any) -> Any:
            kind = kind_of(*args, **kwargs)
            if not after:
                self._fail(kind)
            result = function(*args, **kwargs)
            if after:
                self._fail(kind)
            return result

        self._patch.setattr(owner, name, injected)

    @contextmanager
    def raising(self, error: Exception, *kinds: str) -> Iterator[None]:
        """Fail all calls of these kinds."""
        self._error, self._kinds = error, frozenset(kinds)
        try:
            yield
        finally:
            self._error, self._kinds = None, frozenset()

    def _fail(self, kind: str | None) -> None:
        if self._error is not None and kind in self._kinds:
            self.raised[str(kind)] += 1
            raise self._error.with_traceback(None)
