"""Refuses a catalogue whose weights would not fit into memory, before anything is allocated."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from configs.errors import TrainingError

__all__ = ["BYTES_OF_A_PAIR", "machine_gib", "refuse_too_many"]

BYTES_OF_A_PAIR = 12  # float64 in the Gram matrix, which its inverse replaces, and float32 in the weights
LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
GIB = 1 << 30


def refuse_too_many(items: int, memory_gib: float, machine: float | None = None) -> None:
    """Refuse a catalogue whose weights need more memory than is allowed, or than the machine has.

    Args:
        items: Number of items of the catalogue.
        memory_gib: The setting of that name.
        machine: The machine's memory in GiB. None: it is measured.

    Raises:
        TrainingError: The weights do not fit. The message has the figure and the remedy.
    """
    needed = BYTES_OF_A_PAIR * items**2 / GIB
    has = machine_gib() if machine is None else machine
    if needed <= min(memory_gib, has):
        return
    fewer = math.isqrt(int(min(memory_gib, has) * GIB / BYTES_OF_A_PAIR))
    bound, remedy = f"models.ease.memory_gib allows {memory_gib:g} GiB", "raise it, "
    if has < memory_gib:
        bound, remedy = f"this machine has {has:.1f} GiB", "train on a larger machine, "
    raise TrainingError(
        f"EASE needs {needed:.1f} GiB for the weights between {items:,} items, and {bound}: {remedy}raise evaluation.k_core until at most "
        f"{fewer:,} items are left, or choose a kind that keeps only some neighbours of each item."
    )


def machine_gib(root: Path = Path("/")) -> float:
    """Return the memory of the machine, or of the container if it has less, in GiB. `root` is where /sys is."""
    found = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for name in LIMITS:
        with suppress(OSError, ValueError):  # there is no such file, or it says "max"
            found.append(float((root / name).read_text()))
    return min(found) / GIB
