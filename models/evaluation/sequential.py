"""Compare the arms of a running experiment with tests that stay valid however often they are looked at.

The interval is an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit
theory and asymptotic confidence sequences, Annals of Statistics 2024, theorem 2.2). With probability 1 - alpha it contains the
true difference at every number of users at once, so an experiment may be stopped at any of them.

It inverts a sequential probability ratio test whose alternative is mixed over a normal distribution (Robbins 1970; Johari,
Koomen, Pekelis and Walsh, KDD 2017). The p-value is the reciprocal of that test's likelihood ratio. The guarantee is
asymptotic: each arm needs enough users before the first look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "ArmComparison",
    "Path",
    "compare_arms",
    "compare_pairs",
    "difference_path",
    "mean_bounds",
    "mixture_precision",
    "ratio_mismatch",
    "ratio_of_means",
    "share_p_values",
]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Path:
    """The difference of two arms' means after each user, in the order in which users entered. All arrays are (n,)."""

    users: npt.NDArray[np.int64]  # 1 to n, over both arms
    difference: FloatArray  # treated - control; NaN while an arm has fewer than two users
    error: FloatArray  # its standard error
    low: FloatArray  # confidence sequence; -inf until each arm has `least` users
    high: FloatArray
    p_value: FloatArray  # always valid, never increases; 1 until each arm has `least` users


@dataclass(frozen=True)
class ArmComparison:
    """The comparison of two arms at the newest user."""

    control_users: int
    treated_users: int
    control_mean: float
    treated_mean: float
    difference: float
    low: float  # contains the true difference at every look with probability 1 - alpha
    high: float
    fixed_low: float  # for a single look that was planned before the start
    fixed_high: float
    p_value: float  # always valid
    lift: float | None  # difference / control's mean; None if that is not above 0
    lift_low: float | None  # None if unbounded
    lift_high: float | None
    decided_at: int | None  # number of users at which the confidence sequence first excluded 0


def mixture_precision(tuned_users: int, alpha: float) -> float:
    """Return the rho^2 for which the confidence sequence is tightest at `tuned_users`.

    Choose it before there are data. It is the minimiser of (u + 1) / u log((u + 1) / alpha^2) over u = tuned_users rho^2,
    computed with Lambert's W.
    """
    from scipy.special import lambertw

    return float(-lambertw(-(alpha**2) / math.e, -1).real - 1) / tuned_users


def difference_path(
    values: FloatArray, treated: npt.NDArray[np.bool_], *, alpha: float, tuned_users: int, least: int = 100
) -> Path:
    """Follow the difference of means of `values` (n,), treated - control, user by user.

    Nothing is tested until both arms have `least` users.

    Raises:
        ValueError: if the lengths differ or a value is not finite.
    """
    values = np.asarray(values, np.float64)
    if values.shape != treated.shape or values.ndim != 1:
        raise ValueError(f"values {values.shape} and treated {treated.shape} must be vectors of the same length")
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
    one, zero = _running(values, treated), _running(values, ~treated)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = one.mean - zero.mean
        error = np.sqrt(one.variance / one.count + zero.variance / zero.count)
    looked = (one.count >= max(least, 2)) & (zero.count >= max(least, 2)) & (error > 0)
    return _path(difference, error, looked, alpha=alpha, tuned_users=tuned_users)


def _path(difference: FloatArray, error: FloatArray, looked: npt.NDArray[np.bool_], *, alpha: float, tuned_users: int) -> Path:
    """Return the path of a difference with a standard error, tested where `looked` is true. All arrays are (n,)."""
    users = np.arange(1, len(difference) + 1)
    u: FloatArray = users * np.float64(mixture_precision(tuned_users, alpha))
    width = _boundary(u, alpha) * error
    z = np.divide(difference, error, out=np.zeros_like(users, np.float64), where=looked)
    log_ratio = z**2 / 2 * u / (u + 1) - np.log1p(u) / 2
    p = np.where(looked, np.exp(np.minimum(0.0, -log_ratio)), 1.0)
    return Path(
        users=users,
        difference=difference,
        error=error,
        low=np.where(looked, difference - width, -np.inf),
        high=np.where(looked, difference + width, np.inf),
        p_value=np.minimum.accumulate(p) if len(p) else p,
    )


def mean_bounds(values: FloatArray, *, alpha: float, tuned: int, least: int = 100) -> tuple[FloatArray, FloatArray]:
    """Return the confidence sequence of the mean of `values` (n,): its lower and upper bound after each value.

    Nothing is bounded until there are `least` values that differ.

    Raises:
        ValueError: a value is not finite.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
    running = _running(values, np.ones(len(values), dtype=bool))
    error = np.sqrt(running.variance / np.maximum(running.count, 1))
    looked = (running.count >= max(least, 2)) & (error > 0)
    width = _boundary(running.count * mixture_precision(tuned, alpha), alpha) * error
    return np.where(looked, running.mean - width, -np.inf), np.where(looked, running.mean + width, np.inf)


def share_p_values(inside: npt.NDArray[np.bool_], share: float, *, more: bool) -> FloatArray:
    """Return the p-value, after each unit (n,), of the hypothesis that no more than `share` of the units are inside.

    With `more` false, the hypothesis is that no fewer are. It is exact for any number of units and valid at every look: the p-value
    is the reciprocal of a likelihood ratio whose alternative is mixed uniformly over all shares on the other side (Ville 1939;
    Robbins 1970), and never increases.

    A unit is, for example, a user to whom something happened, and it is inside if the user was assigned to one of two versions. If
    the version makes no difference, the assignment alone decides, whatever the users do and however rare it is.

    Raises:
        ValueError: if share is not between 0 and 1.
    """
    from scipy.special import betainc, betaincc, betaln

    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    found = np.cumsum(inside, dtype=np.float64)
    others = np.arange(1, len(found) + 1) - found
    a, b = found + 1, others + 1
    with np.errstate(divide="ignore"):
        beyond = np.log(betaincc(a, b, share) if more else betainc(a, b, share))
    mixed = betaln(a, b) + beyond - math.log(1 - share if more else share)
    log_ratio = mixed - found * math.log(share) - others * math.log1p(-share)
    p: FloatArray = np.exp(np.minimum(0.0, -log_ratio))
    return np.minimum.accumulate(p) if len(p) else p


def compare_arms(
    values: FloatArray, treated: npt.NDArray[np.bool_], *, alpha: float, tuned_users: int, least: int = 100
) -> tuple[ArmComparison, Path]:
    """Compare the two arms at the newest user, and return the path that led there.

    Raises:
        ValueError: if an arm has no users.
    """
    path = difference_path(values, treated, alpha=alpha, tuned_users=tuned_users, least=least)
    of_control, of_treated = values[~treated], values[treated]
    if not len(of_control) or not len(of_treated):
        raise ValueError("each arm needs at least one user")
    control, test = float(of_control.mean()), float(of_treated.mean())
    difference, error = test - control, float(path.error[-1])
    fixed = _normal_quantile(1 - alpha / 2) * error if np.isfinite(error) else math.inf
    outside = np.flatnonzero((path.low > 0) | (path.high < 0))
    multiplier = float(_boundary(np.array([len(values) * mixture_precision(tuned_users, alpha)]), alpha)[0])
    looked = bool(np.isfinite(path.low[-1]))
    bounds = ratio_of_means(of_treated, of_control, multiplier) if looked else (None, None)
    return (
        ArmComparison(
            control_users=len(of_control),
            treated_users=len(of_treated),
            control_mean=control,
            treated_mean=test,
            difference=difference,
            low=float(path.low[-1]),
            high=float(path.high[-1]),
            fixed_low=difference - fixed,
            fixed_high=difference + fixed,
            p_value=float(path.p_value[-1]),
            lift=difference / control if control > 0 else None,
            lift_low=None if bounds[0] is None else bounds[0] - 1,
            lift_high=None if bounds[1] is None else bounds[1] - 1,
            decided_at=int(path.users[outside[0]]) if len(outside) else None,
        ),
        path,
    )


def compare_pairs(
    control: FloatArray, treated: FloatArray, *, alpha: float, tuned_users: int, least: int = 100
) -> tuple[ArmComparison, Path]:
    """Compare two values of the same users (n,), who saw both arms at once, and return the path that led there.

    Raises:
        ValueError: if there are no users, the lengths differ or a value is not finite.
    """
    if control.shape != treated.shape or control.ndim != 1 or not len(control):
        raise ValueError(f"control {control.shape} and treated {treated.shape} must be vectors of the same length, above 0")
    differences = np.asarray(treated - control, np.float64)
    if not np.isfinite(differences).all():
        raise ValueError("a value is not finite")
    running = _running(differences, np.ones(len(differences), bool))
    with np.errstate(invalid="ignore"):
        error = np.sqrt(running.variance / running.count)
    looked = (running.count >= max(least, 2)) & (error > 0)
    path = _path(running.mean, error, looked, alpha=alpha, tuned_users=tuned_users)
    difference, mean = float(differences.mean()), float(control.mean())
    fixed = _normal_quantile(1 - alpha / 2) * float(error[-1]) if np.isfinite(error[-1]) else math.inf
    outside = np.flatnonzero((path.low > 0) | (path.high < 0))
    return (
        ArmComparison(
            control_users=len(differences),
            treated_users=len(differences),
            control_mean=mean,
            treated_mean=float(treated.mean()),
            difference=difference,
            low=float(path.low[-1]),
            high=float(path.high[-1]),
            fixed_low=difference - fixed,
            fixed_high=difference + fixed,
            p_value=float(path.p_value[-1]),
            lift=difference / mean if mean > 0 else None,
            lift_low=None,
            lift_high=None,
            decided_at=int(path.users[outside[0]]) if len(outside) else None,
        ),
        path,
    )


def ratio_of_means(above: FloatArray, below: FloatArray, multiplier: float) -> tuple[float | None, float | None]:
    """Return the bounds of the ratio of the two means (Fieller 1954), or (None, None) if there are none.

    They enclose every ratio r for which mean(above) - r mean(below) lies within `multiplier` standard errors of 0. With the
    multiplier of a confidence sequence, they hold at every look. There are no bounds if the mean below may be 0.
    """
    a, b = float(above.mean()), float(below.mean())
    va, vb = (float(np.var(side, ddof=1)) / len(side) if len(side) > 1 else math.inf for side in (above, below))
    quadratic = b**2 - multiplier**2 * vb
    if not quadratic > 0 or not np.isfinite(va):
        return None, None
    root = math.sqrt(max(0.0, (a * b) ** 2 - quadratic * (a**2 - multiplier**2 * va)))
    return (a * b - root) / quadratic, (a * b + root) / quadratic


def ratio_mismatch(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the p-value of Pearson's chi-square test that users were assigned to the arms by `shares`.

    A small p-value means that users were lost or assigned wrongly, so no result of the experiment can be trusted (Fabijan et
    al., Diagnosing sample ratio mismatch, KDD 2019). It is 1 if there are no users.
    """
    from scipy.stats import chisquare

    total = sum(counts)
    if not total:
        return 1.0
    expected = np.asarray(shares, np.float64) / sum(shares) * total
    return float(chisquare(np.asarray(counts, np.float64), expected).pvalue)


@dataclass(frozen=True, eq=False)
class _Running:
    count: FloatArray
    mean: FloatArray
    variance: FloatArray  # sample variance; NaN below two


def _running(values: FloatArray, member: npt.NDArray[np.bool_]) -> _Running:
    """Return the count, mean and variance of the members up to each position.

    Values are centred first, because sums of squares would cancel otherwise.
    """
    centre = float(values[member].mean()) if member.any() else 0.0
    centred = np.where(member, values - centre, 0.0)
    count, total, squares = (np.cumsum(column, dtype=np.float64) for column in (member, centred, centred**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        variance = np.where(count > 1, np.maximum(squares - count * mean**2, 0.0) / (count - 1), np.nan)
    return _Running(count, mean + centre, variance)


def _boundary(u: FloatArray, alpha: float) -> FloatArray:
    """Return the half-width of the confidence sequence in standard errors of the difference.

    This is theorem 2.2 divided by sigma / sqrt(t), with u = t rho^2.
    """
    boundary: FloatArray = np.sqrt((u + 1) / u * np.log((u + 1) / alpha**2))
    return boundary


def _normal_quantile(share: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)
