"""Measure how long the machine itself pauses programs, with one process per core that only reads the clock.

The machine may be shared with other work, or be a virtual machine with a CPU limit. Pauses measured here come from the machine
and not from the server.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass

from configs.cores import available_cores

__all__ = ["Pauses", "measure_pauses"]

SPIN = """
import sys, time
clock, end = time.perf_counter, time.perf_counter() + float(sys.argv[1])
last, lost, longest = clock(), 0.0, 0.0
while last < end:
    now = clock()
    if now - last > 0.001:
        lost += now - last
        longest = max(longest, now - last)
    last = now
print(lost, longest)
"""


@dataclass(frozen=True)
class Pauses:
    """The pauses of the worst core."""

    lost_share: float  # share of the time spent in pauses above a millisecond
    longest_ms: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def measure_pauses(seconds: float = 5.0) -> Pauses:
    """Measure the pauses with every core busy for `seconds`."""
    spin = [sys.executable, "-I", "-c", SPIN, str(seconds)]
    running = [subprocess.Popen(spin, stdout=subprocess.PIPE, text=True) for _ in range(available_cores())]
    found = [tuple(map(float, process.communicate()[0].split())) for process in running]
    return Pauses(round(max(lost for lost, _ in found) / seconds, 4), round(max(longest for _, longest in found) * 1000, 1))
