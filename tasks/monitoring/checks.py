"""One drift check, and the verdict over all checks of a slice.

A check drifts if chance does not explain its effect and the effect is large enough to matter. In a large slice, even trivial
changes are beyond chance. In a small slice, chance alone produces large figures. So neither condition alone is drift. Holm's
correction (Scand. J. Statist. 6, 1979) keeps the probability that any check alarms on unchanged data at `drift.alpha`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models.evaluation import holm

__all__ = ["Check", "CheckVerdict", "decided", "not_judged"]

CheckVerdict = Literal["drifted", "stable", "not judged"]


@dataclass(frozen=True)
class Check:
    """One figure of the slice next to that of the reference; JSON-serialisable."""

    name: str
    method: str  # what `effect` measures, in words
    reference: float | None = None
    current: float | None = None
    effect: float | None = None
    bound: float | None = None  # effect above which the figure matters
    chance: float | None = None  # critical value of the effect at the level of the strictest test; None if only p is known
    p_value: float | None = None
    adjusted_p: float | None = None  # after Holm's correction over all judged checks
    verdict: CheckVerdict = "not judged"
    detail: str = ""  # in words: what moved, or why the check was not judged

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


def decided(checks: Sequence[Check], alpha: float) -> list[Check]:
    """Return the checks with their verdicts. A check without a p-value stays "not judged"."""
    adjusted = holm({check.name: check.p_value for check in checks if check.p_value is not None}, alpha)
    return [_decide(check, adjusted) for check in checks]


def _decide(check: Check, adjusted: dict[str, tuple[float, bool]]) -> Check:
    if check.name not in adjusted:
        return check
    p_value, rejected = adjusted[check.name]
    assert check.effect is not None and check.bound is not None
    drifted = rejected and check.effect > check.bound
    return replace(check, adjusted_p=p_value, verdict="drifted" if drifted else "stable")
