"""A process that is killed during one of its writes to S3, or right after it."""

from __future__ import annotations

import os
import signal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from configs.settings import StoreSettings
from infra.storage import S3Store
from tests.tasks.stored import publish_and_promote

__all__ = ["publish_dying"]


class Dying(S3Store):
    """Kills its process at the n-th write: when `half` of the object has been sent, or `after` the answer and before the next write."""

    def __init__(self, settings: StoreSettings, number: int, when: str) -> None:
        bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
        super().__init__(bucket, prefix, settings)
        self.left, self.when = number, when

    def _create(self, key: str, data: bytes | Path) -> str:
        self.left -= 1
        if self.left == 0 and self.when == "half":
            HTTPConnection.send = _send_half  # type: ignore[method-assign]
        writer = super()._create(key, data)
        if self.left == 0:
            _die()
        return writer


def publish_dying(settings: StoreSettings, number: int, when: str, trained: Path) -> None:
    publish_and_promote(Dying(settings, number, when), trained)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _send_half(connection: HTTPConnection, data: Any) -> None:
    content = data if isinstance(data, bytes) else data.read()
    if connection.sock is None:
        connection.connect()
    head = content.startswith(b"PUT ")
    connection.sock.sendall(content if head and content.endswith(b"\r\n\r\n") else content[: len(content) // 2])
    if not head:
        _die()
