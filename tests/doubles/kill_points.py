"""A process that is killed between any two of its writes.

Python raises an audit event just before each change that it makes to the file system. A SIGKILL at the n-th event under a folder
therefore comes after the (n - 1)-th change and before the n-th, and n = 1, 2, ... covers every point. The hook sees that a file is
opened, but not what is written to it. So the store's copying is cut in two as well: half of a file is another point.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tests.doubles.forks import forks

__all__ = ["killed_at_each_write"]

CHANGES = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def killed_at_each_write(story: Callable[[Path], object], prepare: Callable[[int], Path], step: int = 1) -> Iterator[Path]:
    """Run `story` in a process that is killed at its n-th write, for n = 1, 1 + step, ... until it ends unharmed.

    The story runs on the folder `prepare(n)`, which is yielded after the kill. It is pickled.

    Raises:
        AssertionError: The story failed for another reason.
    """
    for number in itertools.count(1, step):
        folder = prepare(number)
        process = forks.Process(target=_die_at, args=(number, folder, story))
        process.start()
        process.join()
        if process.exitcode == 0:
            return
        assert process.exitcode == -signal.SIGKILL, f"the story failed at write {number}, exit status {process.exitcode}"
        yield folder


def _die_at(number: int, folder: Path, story: Callable[[Path], object]) -> None:
    left = [number]
    inside = str(folder)

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not isinstance(arguments[0], (str, os.PathLike)):
            return
        if event == "open" and not arguments[2] & WRITES:
            return
        if str(arguments[0]).startswith(inside):
            count()

    def in_two(source: BinaryIO, target: BinaryIO, length: int = 0) -> None:
        content = source.read()
        target.write(content[: len(content) // 2])
        target.flush()
        count()
        target.write(content[len(content) // 2 :])

    shutil.copyfileobj = in_two  # type: ignore[assignment]
    sys.addaudithook(on_event)
    story(folder)
    os._exit(0)
