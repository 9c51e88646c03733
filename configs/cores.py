"""How many cores this process may keep busy. A container's quota and the affinity count, not the cores of its machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["available_cores", "sleep_while_waiting", "threads_of_each"]


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of whole cores that this process may use, at least 1.

    More threads than that wait for each other at every barrier, and an epoch can take ten times as long. `root` is where /proc and
    /sys are.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(int(quota) for quota in _quotas(root))]))


def threads_of_each(processes: int) -> int:
    """Return the threads of each of some processes that compute side by side. OMP_NUM_THREADS is the most, if it is set."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # the others are of nested loops, which there are none of
    most = int(asked) if asked.isdecimal() and int(asked) else available_cores()
    return max(1, min(most, available_cores() // processes))


def sleep_while_waiting() -> None:
    """Let the threads of OpenMP sleep while they wait for each other. It must be called before torch is imported.

    By default they spin. The Prefect server and other processes need a core now and then, and then one thread spins until the other
    gets its core back: on two busy cores, an epoch with two threads took three times as long as with one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


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
