"""Estimate what a policy would have earned from the lists that another one showed, whose probabilities are known.

The value of a policy is the mean reward of a list, and the reward of a list is the sum over its items. An item's reward may depend
on who is asking and when, but not on its place and not on the other items: the item model of Li, Abbasi-Yadkori, Kveton, Muthukrishnan,
Vinay and Wen (Offline evaluation of ranking policies with click models, KDD 2018).

The three estimators weight a shown item by 1 / p if the other policy lists it too, where p is the probability with which it was shown:
IPS (Horvitz and Thompson 1952), self-normalised IPS (Swaminathan and Joachims, NeurIPS 2015), and doubly robust (Dudik, Langford and
Li, ICML 2011). All requests of a user count as one observation, because they depend on each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["OffPolicyEstimate", "UserSums", "off_policy_estimates"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class UserSums:
    """Sums over the requests of each user. All arrays are (n,), one value for each user."""

    requests: FloatArray
    served: FloatArray  # rewards of the lists that were shown
    weighted: FloatArray  # rewards of shown items that the other policy lists, each divided by the item's probability
    weights: FloatArray  # of these items: 1 / probability
    listed: FloatArray  # number of items that the other policy lists
    modelled: FloatArray  # expected rewards of these items by a model, corrected by the weighted residuals of the shown ones

    @property
    def effective(self) -> float:
        """The effective number of users (Kish 1965): as many as would give the same variance if all weights were equal."""
        squares = float(np.sum(self.weights**2))
        return float(np.sum(self.weights)) ** 2 / squares if squares > 0 else 0.0


@dataclass(frozen=True)
class OffPolicyEstimate:
    """An estimate of the mean reward of a list, and of its difference from that of the lists that were shown."""

    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


def off_policy_estimates(sums: UserSums, *, alpha: float = 0.05) -> dict[str, OffPolicyEstimate]:
    """Return the estimates `served` (what was earned), `ips`, `snips` and `dr`, with intervals of the level 1 - alpha.

    The intervals are those of Student's t with the effective number of users, for the estimate's linear part (the delta method).

    Raises:
        ValueError: If there are fewer than two users, or no weights.
    """
    users = len(sums.requests)
    if users < 2 or not sums.effective > 1:
        raise ValueError("there are too few users, or none of their lists has an item of the other policy")
    n = float(sums.requests.mean())
    served, ips, modelled = (_ratio(column, sums.requests) for column in (sums.served, sums.weighted, sums.modelled))
    earned, weight, listed = (float(column.mean()) for column in (sums.weighted, sums.weights, sums.listed))
    rate, length = earned / weight, listed / n
    snips = (
        rate * length,
        length / weight * (sums.weighted - rate * sums.weights) + rate / n * (sums.listed - length * sums.requests),
    )
    from scipy.stats import t

    def within(value: float, influence: FloatArray, degrees: float) -> tuple[float, float]:
        half = float(t.ppf(1 - alpha / 2, degrees)) * float(np.std(influence, ddof=1)) / math.sqrt(users)
        return value - half, value + half

    found = {}
    for name, (value, influence) in {"served": served, "ips": ips, "snips": snips, "dr": modelled}.items():
        degrees = users - 1 if name == "served" else sums.effective - 1
        low, high = within(value, influence, degrees)
        less = value - served[0]
        difference_low, difference_high = within(less, influence - served[1], degrees)
        found[name] = OffPolicyEstimate(value, low, high, less, difference_low, difference_high)
    return found


def _ratio(column: FloatArray, requests: FloatArray) -> tuple[float, FloatArray]:
    """Return the mean per request, and the influence of each user on it."""
    n = float(requests.mean())
    value = float(column.mean()) / n
    return value, (column - value * requests) / n
