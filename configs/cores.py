"""How many cores this process may keep busy. A container's quota and the affinity count, not the cores of its machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["available_cores", "threads_of_each"]


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of whole cores that this process may use, at least 1.

    More threads than that wait for each other at every barrier, and an epoch can take ten times as long. `root` is where /proc and
    /sys are.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(int(quota) for quota in _quotas(root))]))


def threads_of_each(processes: int) -> int:
    """Return the threads of each of some processes that compute side by side.

    One core is left to the Prefect server and to other processes.
    """
    return max(1, (available_cores() - 1) // processes)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of this process's control group and of those around it, in cores."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:  # version 2
                yield from _along(root / "sys/fs/cgroup", path, _quota_2)
            elif "cpu" in controllers.split(","):
                for mounted in dict.fromkeys((controllers, "cpu")):
                    yield from _along(root / "sys/fs/cgroup" / mounted, path, _quota_1)


def _along(mounted: Path, path: str, quota_in: Callable[[Path], float]) -> Iterator[float]:
    """Yield the quotas of a group and of all around it. A container may see its own group as the outermost one."""
    group = mounted / path.strip("/")
    for folder in (group, *group.parents):
        with suppress(OSError, ValueError):
            yield quota_in(folder)
        if folder == mounted:
            return


def _quota_2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text().split()
    return float(quota) / float(period)  # "max" is not a number: this group has no quota


def _quota_1(folder: Path) -> float:
    quota = float((folder / "cpu.cfs_quota_us").read_text())
    if quota <= 0:
        raise ValueError("this group has no quota")
    return quota / float((folder / "cpu.cfs_period_us").read_text())
