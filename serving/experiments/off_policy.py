"""Estimates what a version would have earned, from exposures to other versions, before anybody is served by it.

The version answers the same requests as a shadow, so its lists are known. What users did with the lists that were shown, and the
probability of showing each item, are in the logs. `models.evaluation.off_policy` has the estimators and their sources.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import SourceError
from configs.serving import AnalysisSettings
from models.evaluation import OffPolicyEstimate, UserSums, off_policy_estimates
from serving.experiments.attribution import of_kinds
from serving.experiments.exposures import Exposure

__all__ = ["OffPolicyReport", "estimate_rows", "report_off_policy"]

FOLDS = 2
PRIOR = 10.0  # exposures that an item's rate is drawn to the mean of all items by
ESTIMATORS = {
    "ips": "inverse propensity",
    "snips": "self-normalised inverse propensity",
    "dr": "doubly robust",
}


@dataclass(frozen=True)
class OffPolicyReport:
    """What exposures say about a version that was not shown. `to_dict` makes it serializable as JSON."""

    version: str
    verdict: str  # in sentences
    outcome: str  # what is estimated
    alpha: float
    requests: int  # that were shown to somebody and that the version answered too
    users: int
    effective_users: float  # users that count the same if all weights were equal
    overlap: float  # share of the version's items that may have been shown
    shown: int  # of these items, those that were shown
    estimates: dict[str, OffPolicyEstimate]  # by estimator, and `served`; empty if the data cannot tell

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def report_off_policy(
    version: str, exposures: Iterable[Exposure], outcomes: pd.DataFrame, analysis: AnalysisSettings
) -> OffPolicyReport:
    """Estimate the mean outcome of a list of a version.

    An outcome counts for the list of the request that it names, or else for the last list before it that showed its item to the user,
    within `analysis.window_s`.

    Args:
        version: The version, or the beginning of its name, as it answered as a shadow.
        exposures: Exposures of any experiments and shadow versions.
        outcomes: Outcomes as returned by `read_outcomes`.
        analysis: The kinds of outcomes, their window, `outcome`, `value_cap`, `alpha`, `min_users` and `min_overlap`.

    Raises:
        SourceError: If the version answered no request that was shown to somebody.
    """
    shown: dict[tuple[str, str], Exposure] = {}
    listed: dict[tuple[str, str], Exposure] = {}
    for each in exposures:
        if not each.shadow:
            shown[each.request, str(each.user)] = each
        elif each.version.startswith(version):
            listed[each.request, str(each.user)] = each
    both = [(one, listed[key]) for key, one in shown.items() if key in listed]
    if not both:
        raise SourceError(
            f"No list of {version} is logged for a request that was shown to somebody: let it answer as a shadow version first "
            "(docs/how-to/experiments.md)."
        )
    cells = _cells(both)
    rewards = _rewards(cells, _shown_items(shown.values()), of_kinds(outcomes, analysis), analysis)
    sums, overlap = _sums(cells, rewards)
    verdict, estimates = _judged(version, sums, overlap, analysis)
    return OffPolicyReport(
        version=version,
        verdict=verdict,
        outcome=_in_words(analysis),
        alpha=analysis.alpha,
        requests=len(both),
        users=len(sums.requests),
        effective_users=round(sums.effective, 1),
        overlap=overlap,
        shown=int((cells["shown"] & cells["listed"]).sum()),
        estimates=estimates,
    )


def estimate_rows(report: OffPolicyReport) -> list[dict[str, str]]:
    """Return the rows of the table of estimates. Without enough data, the table has no figure."""
    level = f"{100 * (1 - report.alpha):.4g} %"
    rows = []
    for name, words in {"served": "measured", **ESTIMATORS}.items():
        found = report.estimates.get(name)
        compared = found is not None and name != "served"
        rows.append(
            {
                "estimate": words,
                "lists": report.version if name in ESTIMATORS else "shown",
                "outcome per list": "" if found is None else f"{found.value:.4f}",
                f"{level} interval": "cannot be told" if found is None else f"{found.low:.4f} to {found.high:.4f}",
                "more than shown": f"{found.difference:+.4f}" if found is not None and compared else "",
                f"{level} interval of that": (
                    f"{found.difference_low:+.4f} to {found.difference_high:+.4f}" if found is not None and compared else ""
                ),
            }
        )
    return rows


def _cells(both: list[tuple[Exposure, Exposure]]) -> pd.DataFrame:
    """Return a row for each item of a request that was shown, could have been shown, or is listed by the version."""
    rows: list[tuple[int, str, str, int, str, float, bool, bool]] = []
    for number, (one, other) in enumerate(both):
        wanted = {str(item) for item in other.items}
        known = {str(item): chance for item, chance in one.others}
        propensities = one.propensities if one.propensities is not None else [1.0] * len(one.items)
        shown = {str(item): chance for item, chance in zip(one.items, propensities, strict=True)}
        for item in wanted | shown.keys():
            chance = shown.get(item, known.get(item, 0.0))
            rows.append((number, one.request, str(one.user), one.time, item, chance, item in shown, item in wanted))
    columns = ["number", "request", "user", "time", "item", "chance", "shown", "listed"]
    return pd.DataFrame(rows, columns=columns)


def _shown_items(exposures: Iterable[Exposure]) -> pd.DataFrame:
    rows = [(each.request, str(each.user), str(item), each.time) for each in exposures for item in each.items]
    return pd.DataFrame(rows, columns=["request", "user", "item", "time"]).sort_values("time", kind="stable")


def _rewards(
    cells: pd.DataFrame, lists: pd.DataFrame, outcomes: pd.DataFrame, analysis: AnalysisSettings
) -> npt.NDArray[np.float64]:
    """Return the reward of each cell (n,): 0 for items that were not shown. `lists` has the items of all lists, in order of time."""
    credited = outcomes[outcomes["request"] != ""]
    unnamed = outcomes[outcomes["request"] == ""].sort_values("time", kind="stable")
    if len(unnamed):
        told = unnamed[["user", "item", "time", "value"]]
        last = pd.merge_asof(told, lists, on="time", by=["user", "item"], tolerance=analysis.window_s)
        credited = pd.concat([credited, last.dropna(subset=["request"])])
    shown = cells[cells["shown"]]
    credited = credited[["request", "user", "item", "value"]].merge(
        shown[["request", "user", "item"]].assign(cell=shown.index), on=["request", "user", "item"]
    )
    by_cell = credited.groupby("cell")["value"]
    if analysis.outcome == "conversion":
        counted = by_cell.size().reindex(cells.index).fillna(0.0) > 0
        return np.asarray(counted, np.float64)
    return np.asarray(by_cell.sum().reindex(cells.index).fillna(0.0).clip(upper=analysis.value_cap), np.float64)


def _sums(cells: pd.DataFrame, rewards: npt.NDArray[np.float64]) -> tuple[UserSums, float]:
    """Return the sums of each user, and the share of the version's items that may have been shown."""
    users, user = np.unique(cells["user"].to_numpy(str), return_inverse=True)
    count = len(users)
    shown, listed = cells["shown"].to_numpy(bool), cells["listed"].to_numpy(bool)
    chance = cells["chance"].to_numpy(np.float64)
    weight = np.where(shown & listed, 1.0 / np.where(chance > 0, chance, 1.0), 0.0)
    expected = _expected(cells, rewards, np.array([_fold(each) for each in users])[user])
    modelled = np.where(listed, expected, 0.0) + weight * (rewards - expected)
    first = ~cells["number"].duplicated().to_numpy(bool)
    overlap = float((listed & (chance > 0)).sum() / max(listed.sum(), 1))

    def summed(column: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(user, weights=column.astype(np.float64), minlength=count), np.float64)

    sums = UserSums(summed(first), summed(rewards), summed(weight * rewards), summed(weight), summed(listed), summed(modelled))
    return sums, overlap


def _expected(cells: pd.DataFrame, rewards: npt.NDArray[np.float64], fold: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the expected reward of each cell, by the mean of its item over the users of the other fold, drawn to the mean of all."""
    item = pd.factorize(cells["item"])[0]
    shown, most = cells["shown"].to_numpy(bool), int(item.max()) + 1
    found = np.zeros(len(cells))
    for number in range(FOLDS):
        known = shown & (fold != number)
        mean = float(rewards[known].mean()) if known.any() else 0.0
        total = np.bincount(item[known], weights=rewards[known], minlength=most)
        times = np.bincount(item[known], minlength=most)
        found = np.where(fold == number, ((total + PRIOR * mean) / (times + PRIOR))[item], found)
    return found


def _fold(user: str) -> int:
    return hashlib.sha256(f"fold\x00{user}".encode()).digest()[0] % FOLDS


def _judged(version: str, sums: UserSums, overlap: float, analysis: AnalysisSettings) -> tuple[str, dict[str, OffPolicyEstimate]]:
    """Return what can be said, and the estimates if there are any."""
    if overlap < analysis.min_overlap:
        return (
            f"Missing overlap: {1 - overlap:.1%} of the items that {version} lists could not have been shown, so what users would do "
            f"with them is unknown. At most {1 - analysis.min_overlap:.1%} may be missing (min_overlap). Explore from a larger pool, or "
            "test the version on users.",
            {},
        )
    if sums.effective < analysis.min_users:
        return (
            f"Too few data: the exposures are worth {sums.effective:,.0f} users to {version}, and {analysis.min_users:,} are needed "
            f"(min_users). There are {len(sums.requests):,} users, but few of them were shown what {version} lists.",
            {},
        )
    found = off_policy_estimates(sums, alpha=analysis.alpha)
    best = found["dr"]
    said = "better" if best.difference_low > 0 else "worse" if best.difference_high < 0 else None
    interval = f"{best.difference:+.4f} ({best.difference_low:+.4f} to {best.difference_high:+.4f}) per list, doubly robust"
    verdict = (
        f"No difference between {version} and what was shown can be told: {interval}."
        if said is None
        else f"{version} would have been {said} than what was shown: {interval}."
    )
    missing = f" {1 - overlap:.1%} of its items could not have been shown; they count as a model expects." if overlap < 1 else ""
    return verdict + missing, found


def _in_words(analysis: AnalysisSettings) -> str:
    kinds = f" ({' or '.join(analysis.kinds)})" if analysis.kinds else ""
    what = "items of a list with an outcome" if analysis.outcome == "conversion" else "value of the outcomes on a list"
    return f"{what}{kinds} within {analysis.window_s / 3600:g} hours"
