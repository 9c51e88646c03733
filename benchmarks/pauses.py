"""How long the machine itself makes a program wait: a program that only reads the clock, on every core at once.

Where other work shares the machine, or it is a virtual one with a bound, no latency beyond these pauses is the server's.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass
from os import cpu_count

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
    """Of the worst core."""

    lost_share: float  # of the time, in pauses above a millisecond
    longest_ms: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def measure_pauses(seconds: float = 5.0) -> Pauses:
    """With every core busy for so long."""
    spin = [sys.executable, "-I", "-c", SPIN, str(seconds)]
    running = [subprocess.Popen(spin, stdout=subprocess.PIPE, text=True) for _ in range(cpu_count() or 1)]
    found = [tuple(map(float, process.communicate()[0].split())) for process in running]
    return Pauses(round(max(lost for lost, _ in found) / seconds, 4), round(max(longest for _, longest in found) * 1000, 1))
