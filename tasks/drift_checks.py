"""One check of drift, and what all of them together say of a slice.

A check drifts where chance does not explain it and where it is large enough to matter. Large slices show any trifle beyond chance,
small ones show large figures by chance: neither alone is drift. Holm's correction (Scand. J. Statist. 6, 1979) keeps the chance
that any of the checks alarms on unchanged data at `drift.alpha`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models.significance import holm

__all__ = ["Check", "CheckVerdict", "decided", "not_judged"]

CheckVerdict = Literal["drifted", "stable", "not judged"]


@dataclass(frozen=True)
class Check:
    """One figure of the slice beside the reference's; JSON-able."""

    name: str
    method: str  # what effect is, in words
    reference: float | None = None
    current: float | None = None
    effect: float | None = None
    bound: float | None = None  # effect above which the figure matters
    chance: float | None = None  # effect that chance reaches at the level of the strictest test; None where only p is known
    p_value: float | None = None
    adjusted_p: float | None = None  # Holm's, over all checks that were judged
    verdict: CheckVerdict = "not judged"
    detail: str = ""  # in words: what moved, or why it was not judged

    @property
    def sentence(self) -> str:
        """A drifted check for people."""
        assert self.effect is not None and self.bound is not None and self.adjusted_p is not None
        said = f" ({self.detail})" if self.detail else ""
        return (
            f"{self.name}{said}: {self.method} {self.effect:.3g}, above {self.bound:.3g}, and chance does not reach it "
            f"(p = {self.adjusted_p:.2g} after Holm's correction)."
        )


def not_judged(name: str, method: str, reason: str, current: float | None = None) -> Check:
    return Check(name=name, method=method, current=current, detail=reason)


def decided(checks: Sequence[Check], alpha: float) -> list[Check]:
    """The checks with their verdicts; those without a p-value stay not judged."""
    adjusted = holm({check.name: check.p_value for check in checks if check.p_value is not None}, alpha)
    return [_decide(check, adjusted) for check in checks]


def _decide(check: Check, adjusted: dict[str, tuple[float, bool]]) -> Check:
    if check.name not in adjusted:
        return check
    p_value, rejected = adjusted[check.name]
    assert check.effect is not None and check.bound is not None
    drifted = rejected and check.effect > check.bound
    return replace(check, adjusted_p=p_value, verdict="drifted" if drifted else "stable")
