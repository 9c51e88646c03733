"""Significance of a difference between two models: paired bootstrap over requests, and Holm's correction.

Two models are compared on the same requests, so the unit of resampling is the request. The statistic is the mean of the
per-request differences. This removes the spread between users, which is much larger than the spread between models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "PairedTest",
    "clustered_means",
    "confidence_interval",
    "confidence_intervals",
    "detectable_difference",
    "holm",
    "paired_bootstrap",
]

FloatArray = npt.NDArray[np.float64]
CHUNK_ELEMENTS = 1 << 22
POWER_80 = 0.8416212335729143  # standard normal quantile of .8


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


def paired_bootstrap(a: FloatArray, b: FloatArray, *, resamples: int, seed: int, margin: float = 0.0) -> PairedTest:
    """Compare per-request metrics `a` and `b` (R,) of the same requests.

    Resamples are drawn from the differences, shifted to a mean of `margin` (the boundary of H0). The p-value is the share of
    resamples whose mean reaches the observed one. One is added to both counts, so it is never 0 (Davison & Hinkley 1997, 4.2).

    Raises:
        ValueError: if the arrays differ in length, are empty, or have a non-finite value.
    """
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"paired arrays of the same length are needed, got {len(a)} and {len(b)}")
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if not np.isfinite(differences).all():
        raise ValueError("a metric is not finite")
    observed = float(differences.mean())
    means = _resampled_means(differences, resamples, seed)
    # The mean of shifted differences is the shifted mean, so the resamples are reused.
    reached = int((means - observed + margin >= observed - 1e-15).sum())
    low, high = np.quantile(means, [0.025, 0.975])
    return PairedTest(
        mean_a=float(np.mean(a)),
        mean_b=float(np.mean(b)),
        difference=observed,
        ci_low=float(low),
        ci_high=float(high),
        p_value=(reached + 1) / (resamples + 1),
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


def detectable_difference(differences: FloatArray, alpha: float) -> float:
    """Return the smallest true mean difference that a one-sided test at `alpha` finds with 80 % power.

    Uses the normal approximation.
    """
    from statistics import NormalDist

    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else float("inf")
    return (NormalDist().inv_cdf(1 - alpha) + POWER_80) * spread / float(np.sqrt(len(differences)))


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
