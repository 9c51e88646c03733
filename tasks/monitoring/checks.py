"""One drift check, and the verdict over all checks of a slice.

A check drifts if chance does not explain its effect and the effect is large enough to matter. In a large slice, even trivial
changes are beyond chance. In a small slice, chance alone produces large figures. So neither condition alone is drift. Holm's
correction (Scand. J. Statist. 6, 1979) keeps the probability that any check alarms on unchanged data at `drift.alpha`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from configs.settings import DriftSettings
from configs.significance import least_resamples
from models.evaluation import holm

__all__ = ["Check", "CheckVerdict", "Critical", "critical_of", "decided", "draws_for", "not_judged"]

CheckVerdict = Literal["drifted", "stable", "not judged"]
Critical = Callable[[float], float | None]
"""Gives, for the level of one test, the effect above which chance does not explain it; None if no effect is."""


@dataclass(frozen=True)
class Check:
    """One figure of the slice next to that of the reference; JSON-serialisable once it is decided."""

    name: str
    method: str  # what `effect` measures, in words
    reference: float | None = None
    current: float | None = None
    effect: float | None = None
    bound: float | None = None  # effect above which the figure matters
    chance: float | None = None  # critical value of the effect, at the level at which Holm's correction tests this check
    p_value: float | None = None
    adjusted_p: float | None = None  # after Holm's correction over all judged checks
    verdict: CheckVerdict = "not judged"
    detail: str = ""  # in words: what moved, or why the check was not judged
    retrains: bool = True  # whether training again can help; it cannot mend a feed
    critical: Critical | None = None  # from the distribution that the p-value comes from; None once the check is decided

    @property
    def sentence(self) -> str:
        """Describe a drifted check in one sentence."""
        assert self.effect is not None and self.bound is not None and self.adjusted_p is not None
        said = f" ({self.detail})" if self.detail else ""
        return (
            f"{self.name}{said}: {self.method} is {self.effect:.3g}, above the bound of {self.bound:.3g}, and chance does not "
            f"explain it (p = {self.adjusted_p:.2g} after Holm's correction)."
        )


def not_judged(name: str, method: str, reason: str, current: float | None = None) -> Check:
    """A check that cannot be judged for `reason`."""
    return Check(name=name, method=method, current=current, detail=reason)


def draws_for(settings: DriftSettings, most_checks: int) -> int:
    """Return the number of slices to resample: `drift.resamples`, or more if alpha could not be reached with so few.

    Args:
        most_checks: Number of checks that the p-values may be corrected for.
    """
    return max(settings.resamples, least_resamples(settings.alpha, most_checks))


def critical_of(null: npt.NDArray[np.float64]) -> Critical:
    """Return the critical values of a test whose p-value is (draws that reach the effect + 1) / (draws + 1).

    Args:
        null: Effects by chance alone, (resamples,).
    """

    def critical(level: float) -> float | None:
        may_reach = math.floor(level * (len(null) + 1) - 1 + 1e-9)
        if may_reach < 0:
            return None
        place = max(len(null) - 1 - may_reach, 0)
        value = float(np.partition(null, place)[place])
        return value if math.isfinite(value) else None

    return critical


def decided(checks: Sequence[Check], alpha: float) -> list[Check]:
    """Return the checks with their verdicts and critical values. A check without a p-value stays "not judged".

    Holm's correction tests the check with the k-th smallest p-value of n at the level alpha / (n - k + 1), and all checks from the
    first that fails at the level of that one.
    """
    adjusted = holm({check.name: check.p_value for check in checks if check.p_value is not None}, alpha)
    rejected = sum(found for _, found in adjusted.values())
    levels = {name: alpha / max(len(adjusted) - min(step, rejected), 1) for step, name in enumerate(adjusted)}
    return [_decide(check, adjusted, levels) for check in checks]


def _decide(check: Check, adjusted: dict[str, tuple[float, bool]], levels: dict[str, float]) -> Check:
    if check.name not in adjusted:
        return replace(check, critical=None)
    p_value, rejected = adjusted[check.name]
    assert check.effect is not None and check.bound is not None
    drifted = rejected and check.effect > check.bound
    return replace(
        check,
        adjusted_p=p_value,
        verdict="drifted" if drifted else "stable",
        chance=check.critical(levels[check.name]) if check.critical is not None else check.chance,
        critical=None,
    )
