"""Count what a process computes: CPU instructions if the machine can count them, or else CPU seconds.

Instructions hardly depend on what else the machine does. Seconds depend on it, because others use the same caches and cores.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import time
from typing import Literal, Protocol

__all__ = ["Counter", "Instructions", "Seconds", "Unit", "counter"]

Unit = Literal["instructions", "seconds"]
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}  # the number of the system call
HARDWARE, INSTRUCTIONS = 0, 1  # PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS
INHERIT, PINNED, NO_KERNEL, NO_HYPERVISOR = 1 << 1, 1 << 2, 1 << 5, 1 << 6
CLOSED_ON_EXEC = 8


class Counter(Protocol):
    """Counts what this process has computed so far, with its threads and those of its children that have ended."""

    unit: Unit

    def read(self) -> float: ...


class Seconds:
    """Counts CPU seconds."""

    unit: Unit = "seconds"

    def read(self) -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + ended.ru_utime + ended.ru_stime


class _Attributes(ctypes.Structure):
    """The first version of `struct perf_event_attr` (linux/perf_event.h), which every kernel takes."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("bp_addr", ctypes.c_uint64),
    )


class Instructions:
    """Counts CPU instructions outside the kernel, of this thread and of all threads and children that it starts from now on."""

    unit: Unit = "instructions"

    def __init__(self) -> None:
        """Start counting. Raises OSError if the machine cannot count instructions, or does not let this process do it."""
        number = PERF_EVENT_OPEN.get(platform.machine())
        if number is None or platform.system() != "Linux":
            raise OSError(errno.ENOSYS, "no known way to count instructions on this system")
        asked = _Attributes(
            type=HARDWARE,
            size=ctypes.sizeof(_Attributes),
            config=INSTRUCTIONS,
            flags=INHERIT | PINNED | NO_KERNEL | NO_HYPERVISOR,
        )
        call = ctypes.CDLL(None, use_errno=True).syscall
        call.restype = ctypes.c_long
        everywhere, no_group = ctypes.c_int(-1), ctypes.c_int(-1)
        itself, flags = ctypes.c_int(0), ctypes.c_ulong(CLOSED_ON_EXEC)
        found = call(ctypes.c_long(number), ctypes.byref(asked), itself, everywhere, no_group, flags)
        if found < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._file = int(found)
        try:
            self.read()
        except OSError:
            os.close(self._file)
            raise

    def read(self) -> float:
        """Return the instructions since the start. Raises OSError if the machine has stopped counting."""
        content = os.read(self._file, 8)
        if len(content) < 8:  # the processor's counters are taken by another program
            raise OSError(errno.EBUSY, "the processor does not count this program's instructions")
        return float(struct.unpack("Q", content)[0])


def counter() -> Counter:
    """Return a counter of instructions, or of seconds if instructions cannot be counted here."""
    try:
        return Instructions()
    except OSError:
        return Seconds()
