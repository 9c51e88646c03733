"""Measure a case: ours and its reference in turn, several times, in the same process."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.ratios.counter import Counter, Seconds

__all__ = ["Case", "Place", "Side", "measured", "median_ratio", "repeated"]

Side = Callable[[int], object]
"""Runs as many calls as it is told."""
Kept = TypeVar("Kept")
ROUNDS = 7
SECONDS = 0.25
"""CPU seconds of a side in a round. A call that takes longer is measured once in each round."""
MOST_GROWTH = 10  # of the number of calls while it is found


@dataclass(frozen=True, eq=False)
class Place:
    """Where the cases keep what they need while they are measured."""

    folder: Path
    stack: ExitStack  # closes what the cases opened
    small: bool = False  # whether only to show that the cases run
    _kept: dict[Callable[..., Any], Any] = field(default_factory=dict)

    def size(self, usual: int, small: int) -> int:
        """Return the usual size of something, or the small one."""
        return small if self.small else usual

    def once(self, make: Callable[[Place], Kept]) -> Kept:
        """Return what `make` makes for this place. It makes it once."""
        if make not in self._kept:
            self._kept[make] = make(self)
        found: Kept = self._kept[make]
        return found


@dataclass(frozen=True, eq=False)
class Case:
    """What is compared: the product's way to do something, and a reference that stays the same when the product changes."""

    ours: Side
    reference: Side


def repeated(call: Callable[[], object]) -> Side:
    """Return a side that calls a function."""

    def side(calls: int) -> None:
        for _ in range(calls):
            call()

    return side


def measured(case: Case, counter: Counter, *, rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure both sides in turn.

    Args:
        case: What is compared.
        counter: Counts what the process computes.
        rounds: Number of rounds. The side that comes first alternates.
        seconds: CPU seconds of a side in a round.

    Returns:
        The median `ratio` of the rounds, their `spread` (`median_ratio`), and what a call of each side takes in the counter's unit.
    """
    sides = {"ours": case.ours, "reference": case.reference}
    calls = {name: _calls(side, seconds) for name, side in sides.items()}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sides if number % 2 == 0 else reversed(sides):
            gc.collect()  # so that no side cleans up after the other
            before = counter.read()
            sides[name](calls[name])
            found[name].append((counter.read() - before) / calls[name])
    ratio, spread = median_ratio(found["ours"], found["reference"])
    return {"ratio": ratio, "spread": spread, **{name: statistics.median(each) for name, each in found.items()}}


def median_ratio(ours: list[float], reference: list[float]) -> tuple[float, float]:
    """Return the median of the ratios of the rounds, and the range of their middle half as a share of it."""
    ratios = [own / other for own, other in zip(ours, reference, strict=True)]
    median = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else (median, median, median)
    return median, (high - low) / median


def _calls(side: Side, seconds: float) -> int:
    """Run a side until it is warm, and return the calls that take as many CPU seconds."""
    clock, calls = Seconds(), 1
    side(calls)  # compiles, and fills caches
    while seconds > 0:
        before = clock.read()
        side(calls)
        spent = clock.read() - before
        if spent >= seconds / 2:
            return max(1, round(calls * seconds / spent))
        calls = min(MOST_GROWTH * calls, max(calls + 1, round(calls * seconds / max(spent, 1e-6))))
    return calls
