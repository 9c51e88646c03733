"""Significance of a difference between two models on the same requests, and Holm's correction.

Two models are compared on the same requests, so the unit of resampling is the request. The statistic is the mean of the
per-request differences. This removes the spread between users, which is much larger than the spread between models.

The p-value comes from flipping the signs of the differences, and the interval from a bootstrap. A bootstrap's p-value is too small
where few requests differ: if 4 of 50 are better and none is worse, it is .044. Flipping signs gives 1/16, which is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = [
    "PairedTest",
    "clustered_means",
    "confidence_interval",
    "confidence_intervals",
    "detectable_difference",
    "holm",
    "paired_test",
    "standard_error",
]

FloatArray = npt.NDArray[np.float64]
CHUNK_ELEMENTS = 1 << 22
POWER_80 = 0.8416212335729143  # standard normal quantile of .8
MOST_PATTERNS = 1 << 14  # of signs, of which every one is counted


@dataclass(frozen=True)
class PairedTest:
    """A test of H0: mean(a - b) <= margin against H1: mean(a - b) > margin."""

    mean_a: float
    mean_b: float
    difference: float
    ci_low: float  # two-sided 95 % percentile interval of the difference
    ci_high: float
    p_value: float
    margin: float
    requests: int


def paired_test(
    a: FloatArray, b: FloatArray, *, resamples: int, seed: int, margin: float = 0.0, common_sd: float = 0.0
) -> PairedTest:
    """Compare per-request metrics `a` and `b` (R,) of the same requests.

    On the boundary of H0, a difference is as likely to be above `margin` as to be below it by as much. The p-value is the share of
    sign patterns of the differences from `margin` whose mean reaches the observed one. All patterns are counted if they are few.
    Otherwise `resamples` of them are drawn, and one is added to both counts, so p is never 0 (Davison & Hinkley 1997, 4.2).

    Args:
        a: Values of the first model.
        b: Values of the second model.
        resamples: Number of sign patterns, and of bootstrap resamples for the interval.
        seed: Seed of both.
        margin: Mean difference on the boundary of H0.
        common_sd: Standard deviation of a normal error that all differences share, such as the luck of a training. It widens the
            null distribution and the interval.

    Raises:
        ValueError: if the arrays differ in length, are empty, or have a non-finite value.
    """
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"paired arrays of the same length are needed, got {len(a)} and {len(b)}")
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if not np.isfinite(differences).all():
        raise ValueError("a metric is not finite")
    rng = np.random.default_rng(seed)
    means = _resampled_means(differences, resamples, seed)
    if common_sd > 0 and differences.any():
        means = means + rng.normal(0.0, common_sd, resamples)
    low, high = np.quantile(means, [0.025, 0.975])
    return PairedTest(
        mean_a=float(np.mean(a)),
        mean_b=float(np.mean(b)),
        difference=float(differences.mean()),
        ci_low=float(low),
        ci_high=float(high),
        p_value=_sign_flip_p(differences - margin, resamples, rng, common_sd),
        margin=margin,
        requests=len(differences),
    )


def confidence_interval(values: FloatArray, *, resamples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of per-request values."""
    low, high = np.quantile(_resampled_means(np.asarray(values, np.float64), resamples, seed), [0.025, 0.975])
    return float(low), float(high)


def confidence_intervals(columns: Mapping[str, FloatArray], *, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile interval of each column's mean. All columns (R,) use the same resamples."""
    if not columns:
        return {}
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    low, high = np.quantile(_resampled_means(values, resamples, seed), [0.025, 0.975], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(columns, low, high, strict=True)}


def clustered_means(values: FloatArray, clusters: npt.NDArray[np.int64], *, resamples: int, seed: int) -> FloatArray:
    """Return means (resamples,) of `values` (R,) over clusters (R,) drawn with replacement.

    All values of a cluster are drawn together.

    Raises:
        ValueError: if there are no values, or the arrays differ in length.
    """
    if len(values) == 0 or len(values) != len(clusters):
        raise ValueError(f"values and clusters of the same length are needed, got {len(values)} and {len(clusters)}")
    codes = np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.bincount(codes, weights=values)
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK_ELEMENTS // len(sizes))
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        weights = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=min(rows, resamples - start))
        means[start : start + rows] = (weights @ sums) / (weights @ sizes)
    return means


def detectable_difference(differences: FloatArray, alpha: float, common_sd: float = 0.0) -> float:
    """Return the smallest true mean difference that a one-sided test at `alpha` finds with 80 % power.

    Uses the normal approximation. If several tests share a level by Holm's correction, `alpha` is the level of its first step,
    which is the level of all divided by their number.
    """
    return (NormalDist().inv_cdf(1 - alpha) + POWER_80) * standard_error(differences, common_sd)


def standard_error(differences: FloatArray, common_sd: float = 0.0) -> float:
    """Return the standard error of the mean of `differences` (R,), with an error that all of them share. Infinite for one."""
    if len(differences) < 2:
        return math.inf
    return math.sqrt(float(np.var(differences, ddof=1)) / len(differences) + common_sd**2)


def holm(p_values: dict[str, float], alpha: float) -> dict[str, tuple[float, bool]]:
    """Apply Holm's step-down correction.

    Returns:
        For each name, the adjusted p-value and whether its null hypothesis is rejected at `alpha`.
    """
    adjusted: dict[str, tuple[float, bool]] = {}
    highest = 0.0
    for step, (name, p) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        highest = max(highest, min(1.0, p * (len(p_values) - step)))
        adjusted[name] = (highest, highest <= alpha)
    return adjusted


def _sign_flip_p(differences: FloatArray, resamples: int, rng: np.random.Generator, common_sd: float) -> float:
    """Return the share of sign patterns of `differences` (R,) whose mean, with the common error, reaches the observed mean.

    Rank metrics take few distinct values, so a pattern is drawn as the number of positive signs of each distinct value.
    """
    observed = float(differences.mean())
    values, counts = np.unique(np.abs(differences).round(12), return_counts=True)
    values, counts = values[values > 0], counts[values > 0]
    if not len(values):
        return 1.0
    if math.prod(int(count) + 1 for count in counts) <= MOST_PATTERNS:
        sums, shares = np.zeros(1), np.ones(1)
        for value, count in zip(values, counts, strict=True):
            positive = np.arange(count + 1)
            chance = np.exp([_log_choose(int(count), k) - int(count) * math.log(2) for k in range(int(count) + 1)])
            sums = np.add.outer(sums, value * (2 * positive - count)).ravel()
            shares = np.outer(shares, chance).ravel()
        return min(1.0, float(shares @ _reached(sums / len(differences) - observed, common_sd)))
    found, rows = 0.0, max(1, CHUNK_ELEMENTS // len(values))
    for start in range(0, resamples, rows):
        signs = 2 * rng.binomial(counts, 0.5, size=(min(rows, resamples - start), len(values))) - counts
        found += float(_reached(signs @ values / len(differences) - observed, common_sd).sum())
    return (found + 1) / (resamples + 1)


def _log_choose(n: int, k: int) -> float:
    """Return the logarithm of the number of ways to choose k of n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _reached(excess: FloatArray, common_sd: float) -> FloatArray:
    """Return the chance that the common error does not take `excess` below zero."""
    if common_sd == 0:
        return (excess >= -1e-12).astype(np.float64)
    return np.array([0.5 * math.erfc(-x / (common_sd * math.sqrt(2))) for x in excess.tolist()])


def _resampled_means(values: FloatArray, resamples: int, seed: int) -> FloatArray:
    """Return means (resamples,) of resamples of `values` (R,), or (resamples, M) of (R, M).

    Resamples are drawn with replacement, in chunks of bounded memory. Rank metrics take few distinct values. A resample is
    therefore drawn as the number of times that each distinct value (row, for several columns) occurs in it, which is
    multinomial. The distribution is the same as when drawing requests one by one, at a cost that does not grow with R.
    """
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    shares = counts / len(values)
    rows = max(1, CHUNK_ELEMENTS // len(distinct))
    means = np.empty((resamples, *values.shape[1:]))
    for start in range(0, resamples, rows):
        drawn = rng.multinomial(len(values), shares, size=min(rows, resamples - start))
        means[start : start + rows] = drawn @ distinct / len(values)
    return means
