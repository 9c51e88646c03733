"""A clock that the whole installation sees, and that can be set forward.

A small library (clock.c) is loaded into every process. It shifts the time of day by what a shared file says, so all processes see a jump
at once. Processes measure durations, sleep and wait by the monotonic clock, which stays real.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Clock"]

SOURCE = Path(__file__).with_name("clock.c")
AHEAD_S = 60  # a file that is so much younger than now was written by a process: the file system's clock is not shifted
COMPILER = "cc"


class Clock:
    """The time of the installation. It lies in the past, so that files with the file system's own times can be told apart."""

    def __init__(self, folder: Path, start: float) -> None:
        """Let the installation begin at `start` (UTC seconds). The library and the shared file are kept in `folder`."""
        self.folder, self.offset = folder, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "shift").write_bytes(bytes(mmap.PAGESIZE))
        command = [COMPILER, "-shared", "-fPIC", "-O2", "-o", str(folder / "clock.so"), str(SOURCE), "-ldl", "-pthread"]
        subprocess.run(command, check=True)
        with (folder / "shift").open("r+b") as file:
            self._shift = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.set_to(start)

    @staticmethod
    def is_possible() -> bool:
        """Return whether this machine has a compiler."""
        return shutil.which(COMPILER) is not None

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every process that is to see this clock."""
        return {"LD_PRELOAD": str(self.folder.absolute() / "clock.so")}

    def now(self) -> float:
        """Return the installation's time in UTC seconds."""
        return time.time() + self.offset

    def set_to(self, moment: float) -> None:
        """Set the clock to `moment` (UTC seconds)."""
        self.offset = moment - time.time()
        self._shift[:8] = struct.pack("q", round(self.offset * 1e9))

    def date_files(self, folders: Iterable[Path]) -> None:
        """Give files that processes wrote since the last jump the installation's time, so that they age with it."""
        now = self.now()
        for folder in folders:
            for parent, inner, names in os.walk(folder):
                for name in (*inner, *names):
                    path = os.path.join(parent, name)
                    try:
                        if os.stat(path, follow_symlinks=False).st_mtime > now + AHEAD_S:
                            os.utime(path, (now, now), follow_symlinks=False)
                    except FileNotFoundError:
                        continue
