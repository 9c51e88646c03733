"""Beyond-accuracy metrics of a top 10: coverage, evenness, popularity, diversity and calibration of genres.

Means over lists are computed list by list first, so that they have intervals. A list for which a metric is not defined (no
item, no pair of items with genres, no history with genres) is left out of the mean. A metric that is not defined for any list
is absent.

Coverage, Gini index and average popularity are those of RecBole 1.2.1 (ItemCoverage, GiniIndex, AveragePopularity), with two
differences. RecBole counts its padding item as part of the catalogue (n + 1 items, one of them never shown). If a list has too
few unmasked items, RecBole fills it with masked ones, while our list is shorter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.evaluation.ranking import FloatArray, Ranking, columns_of, head_items
from models.evaluation.significance import confidence_intervals
from models.recommender import IntArray, Requests, Sequences

__all__ = ["Genres", "genres_of", "gini_of_events", "list_metric_intervals", "list_metrics", "per_list", "per_list_intervals"]

NO_GENRE = ("", "unknown")  # ml-100k's flag for a film without any information
SMOOTHING = 0.01  # Steck's alpha
CHUNK_LISTS = 4096


@dataclass(frozen=True, eq=False)
class Genres:
    """The genres of each item. An item may have none."""

    item_ids: IntArray  # (M,) raw ids, ascending
    names: tuple[str, ...]  # (G,)
    member: npt.NDArray[np.bool_]  # (M, G)

    def of(self, item_ids: IntArray) -> npt.NDArray[np.float32]:
        """Return the genre flags (len(item_ids), G) as 0 and 1. Unknown items have no genres."""
        place, known = columns_of(self.item_ids, item_ids)
        return (self.member[place] & known[:, None]).astype(np.float32)


def genres_of(items: pd.DataFrame) -> Genres | None:
    """Read genres from the items table (item_id, genres joined by |), or return None if no item has any.

    An item whose genres are empty or `unknown` has none and is left out of the genre metrics.
    """
    table = items.sort_values("item_id")
    flags = table["genres"].astype("string").fillna("").str.get_dummies("|")
    flags = flags[[name for name in flags.columns if name not in NO_GENRE]]
    if not flags.to_numpy().any():
        return None
    names = tuple(str(name) for name in flags.columns)
    return Genres(table["item_id"].to_numpy(np.int64), names, flags.to_numpy(bool))


def list_metrics(
    ranking: Ranking, train: Sequences, histories: Requests | None = None, genres: Genres | None = None
) -> dict[str, float]:
    """Compute all beyond-accuracy metrics of a ranking.

    - `coverage@10`: the share of the catalogue that appears in at least one list.
    - `gini@10`: the Gini index of how often items are shown (0: all equally, 1: one item; also 1 if nothing is shown).
    - The mean over lists of each metric of `per_list`.
    """
    return _overall(ranking, per_list(ranking, train, histories, genres))


def list_metric_intervals(
    ranking: Ranking, train: Sequences, histories: Requests, genres: Genres | None, *, resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return `list_metrics` and the 95 % bootstrap intervals of its means over lists."""
    lists = per_list(ranking, train, histories, genres)
    return _overall(ranking, lists), per_list_intervals(lists, resamples=resamples, seed=seed)


def per_list(
    ranking: Ranking, train: Sequences, histories: Requests | None = None, genres: Genres | None = None
) -> dict[str, FloatArray]:
    """Return the value (R,) of each request's list for each metric, NaN if it is not defined.

    `histories` are the requests that were ranked.

    - `novelty@10`: mean self-information -log2(share of train events) of the shown items, in bits. One event is added to each
      item, so that items without events have a finite value.
    - `popularity@10`: mean train events of the shown items (average recommendation popularity, ARP; Yin et al., VLDB 2012).
    - `tail@10`: share of the shown items that are not `head_items`. This is RecBole's TailPercentage with another tail.
      RecBole's tail is the tenth of the items with the fewest events, which a good ranker hardly ever shows, and it leaves out
      items without events.
    - `diversity@10`: mean Jaccard distance of the genre sets over the list's pairs of items that both have genres (intra-list
      diversity; Ziegler et al., WWW 2005).
    - `miscalibration@10`: KL divergence, in nats, of the list's genre distribution from that of the user's history. Each event
      and each shown item spreads a weight of 1 over its genres. The list's distribution is smoothed with alpha = .01 of the
      history's (Steck, RecSys 2018, eq. 2 to 5; 0 is perfectly calibrated).
    """
    events = _train_events(ranking.catalogue, train)
    information = -np.log2((events + 1) / (events + 1).sum())
    tail = ~np.isin(ranking.catalogue, head_items(train))
    found = {
        "novelty@10": _mean_over_lists(ranking.top, information),
        "popularity@10": _mean_over_lists(ranking.top, events),
        "tail@10": _mean_over_lists(ranking.top, tail.astype(np.float64)),
    }
    if genres is not None:
        found["diversity@10"] = _diversity(ranking.top, genres.of(ranking.catalogue))
        if histories is not None:
            found["miscalibration@10"] = _miscalibration(ranking, histories, genres)
    return {name: values for name, values in found.items() if np.isfinite(values).any()}


def per_list_intervals(lists: Mapping[str, FloatArray], *, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the 95 % bootstrap interval of the mean of each metric of `per_list`, over the lists that define it.

    Values are first rounded to a twentieth of their standard deviation. This changes the variance by 0.02 % and makes the cost
    of a resample independent of the number of lists.
    """
    intervals = {}
    for name, values in lists.items():
        defined = values[np.isfinite(values)]
        step = float(defined.std()) / 20
        rounded = np.round(defined / step) * step if step > 0 else defined
        shift = float((defined - rounded).mean())
        low, high = confidence_intervals({name: rounded}, resamples=resamples, seed=seed)[name]
        intervals[name] = (low + shift, high + shift)
    return intervals


def gini_of_events(ranking: Ranking, train: Sequences, seed: int = 0) -> float | None:
    """Return the Gini index of random train events, as many as the lists of the ranking have places; None without any.

    It shows how concentrated recommendations are that follow what users choose. It depends on the number of places: with fewer
    places than items, even lists that never repeat an item have a high index.
    """
    events, places = _train_events(ranking.catalogue, train), int((ranking.top >= 0).sum())
    if not places or not events.sum():
        return None
    return _gini(np.random.default_rng(seed).multinomial(places, events / events.sum()))


def _gini(counts: IntArray) -> float:
    """Return the Gini index of the counts; 1 if they are all 0."""
    ordered = np.sort(counts).astype(np.float64)
    total, n = ordered.sum(), len(ordered)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * total)) if total else 1.0


def _overall(ranking: Ranking, lists: Mapping[str, FloatArray]) -> dict[str, float]:
    shown = ranking.recommended
    means = {name: float(np.nanmean(values)) for name, values in lists.items()}
    return {"coverage@10": float((shown > 0).mean()), "gini@10": _gini(shown), **means}


def _train_events(catalogue: IntArray, train: Sequences) -> FloatArray:
    place, known = columns_of(catalogue, train.item_ids)
    counts: FloatArray = np.bincount(place[known], minlength=len(catalogue)).astype(np.float64)
    return counts


def _mean_over_lists(top: npt.NDArray[np.int32], values: FloatArray) -> FloatArray:
    """Return the mean (R,) of `values` (n_items,) over the items of each list; NaN for an empty list."""
    shown = top >= 0
    return _ratio(np.where(shown, values[top], 0.0).sum(axis=1), shown.sum(axis=1))


def _diversity(top: npt.NDArray[np.int32], member: npt.NDArray[np.float32]) -> FloatArray:
    distance = np.full(len(top), np.nan)
    upper = np.triu(np.ones((top.shape[1], top.shape[1]), dtype=bool), 1)
    for start in range(0, len(top), CHUNK_LISTS):
        part = top[start : start + CHUNK_LISTS]
        sets = member[part] * (part >= 0)[:, :, None]
        shared = sets @ sets.transpose(0, 2, 1)  # (r, k, k) sizes of the intersections
        sizes = sets.sum(axis=2)
        union = sizes[:, :, None] + sizes[:, None, :] - shared
        pairs = upper & (sizes > 0)[:, :, None] & (sizes > 0)[:, None, :]
        distances = np.where(pairs, 1 - shared / np.maximum(union, 1), 0).astype(np.float64)
        distance[start : start + CHUNK_LISTS] = _ratio(distances.sum(axis=(1, 2)), pairs.sum(axis=(1, 2)))
    return distance


def _miscalibration(ranking: Ranking, histories: Requests, genres: Genres) -> FloatArray:
    lengths = (ranking.top >= 0).sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    liked = _genre_mix(histories.offsets, histories.item_ids, genres)
    shown = _genre_mix(offsets, ranking.catalogue[ranking.top[ranking.top >= 0]], genres)
    smoothed = (1 - SMOOTHING) * shown + SMOOTHING * liked
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = liked * np.log(liked / smoothed)
    # A genre that is not in the history adds 0. A mix that is not defined is NaN in every genre.
    divergence: FloatArray = np.where(np.isnan(smoothed), np.nan, np.where(liked > 0, terms, 0.0)).sum(axis=1)
    return divergence


def _genre_mix(offsets: IntArray, item_ids: IntArray, genres: Genres) -> FloatArray:
    """Return the share (rows, G) of each genre among the items of each row. A row sums to 1, or is NaN without genres."""
    from scipy.sparse import csr_array

    columns, known = columns_of(genres.item_ids, item_ids)
    weights = genres.member / np.maximum(genres.member.sum(axis=1, keepdims=True), 1)
    rows = csr_array((known.astype(np.float64), columns, offsets), shape=(len(offsets) - 1, len(weights)))
    totals: FloatArray = rows @ weights
    return _ratio(totals, totals.sum(axis=1, keepdims=True))


def _ratio(sums: FloatArray, counts: npt.NDArray[np.number]) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts > 0, sums / counts, np.nan)
