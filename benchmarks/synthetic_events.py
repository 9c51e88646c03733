"""Events with the marginals of MovieLens-25M at any size: `python -m benchmarks.synthetic_events --interactions N --out ratings.csv`.

How much each user rates, how often each item is rated, the ratings and the times follow MovieLens-25M. What is made up is
the order, and it is there to be learnt: items belong to clusters that lie on a ring, and a user goes round the ring once,
so neighbours in time come from one arc of it, and a session stays within few clusters. A share of the events
(`STRAY_SHARE`) stands anywhere. Which items a user rates depends on their popularity alone: there is nothing here for a
model without order to learn beyond it, ratings are independent of both, and items do not come out over the years.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from models.recommender import Sequences

__all__ = ["PUBLISHED", "Catalogue", "EventTable", "catalogue", "events", "marginals", "scaled", "sequences", "write_csv"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

USERS, ITEMS, INTERACTIONS = 162_541, 62_423, 25_000_095
"""Of MovieLens-25M (its README); ITEMS is its movies.csv, of which RATED_ITEMS have a rating."""
RATED_ITEMS = 59_047
MIN_EVENTS = 20
"""Ratings that every user has at least: MovieLens leaves others out."""
MAX_EVENTS = 32_202
HIGHEST_MOVIE_ID = 209_171
FIRST, LAST = 789_652_009, 1_574_327_703
"""UTC seconds of the first and the last rating: 1995-01-09 11:46:49 and 2019-11-21 09:15:03."""
RATING_SHARES = (0.016, 0.031, 0.017, 0.066, 0.051, 0.196, 0.127, 0.266, 0.088, 0.145)
"""Of the ratings 0.5, 1.0, ... 5.0."""

PUBLISHED: dict[str, Any] = {
    "interactions": INTERACTIONS,
    "users": USERS,
    "rated_items": RATED_ITEMS,
    "events_per_user_min": MIN_EVENTS,
    "events_per_user_median": 71,
    "events_per_user_mean": 153.81,
    "events_per_user_max": MAX_EVENTS,
    "events_per_item_min": 1,
    "events_per_item_median": 6,
    "events_per_item_mean": 423.39,
    "events_per_item_max": 81_491,
    "top_item_share": 0.0033,
    "top_tenth_of_items_share": 0.93,
    "items_gini": 0.942,
    "rating_shares": list(RATING_SHARES),
    "first_timestamp": FIRST,
    "last_timestamp": LAST,
}
"""MovieLens-25M's README and ratings.csv; the Gini index is LensKit Codex's. Keyed as `marginals` is."""

USER_SIGMA = 1.389
"""Of the log-normal that a user's events above MIN_EVENTS follow: its mean over its median is (153.8 - 20) / (71 - 20)."""
POPULARITY = (
    *((1, 81_491), (10, 65_500), (100, 35_000), (1000, 6150), (3800, 985), (6000, 440)),
    *((10_300, 115), (24_000, 11), (29_500, 6), (40_000, 2.5), (46_000, 1.6), (RATED_ITEMS, 0.7)),
)
"""(rank, events) of items, log-linear in between: chosen so that top item, median, top tenth and Gini index are those published."""
TOP_ITEM_REACH = 81_491 / USERS
"""Share of users whom the most popular item reaches; smaller releases have about the same (MovieLens-1M 0.57)."""
CLUSTERS = 256
MIN_CLUSTER_ITEMS = 8
STRAY_SHARE = 0.2
SESSION_EVENTS = 50
"""Mean events of a session."""
GAP_MEDIAN_S, GAP_SIGMA = 2.0, 1.5
"""Log-normal seconds between events of a session, rounded down: a third are 0, 19 of 20 are below half a minute."""
PAUSE_MEDIAN_S, PAUSE_SIGMA, PAUSE_MIN_S = 20 * 86_400.0, 2.0, 3600
"""Log-normal seconds between sessions: most are weeks, some are hours or years."""
LEAST_SPAN = 0.1
"""A user's events span at most a share of FIRST..LAST that is drawn for him from between this and 1."""
BLOCK_EVENTS = 1 << 20
"""Events made at once: temporaries are of this size, whatever the table's."""


@dataclass(frozen=True, eq=False)
class EventTable:
    """Events sorted by user, then time; no (user, item) pair twice. N rows."""

    user_id: IntArray  # (N,) 1..users
    movie_id: IntArray  # (N,)
    rating: npt.NDArray[np.float32]  # (N,) 0.5, 1.0, ... 5.0
    timestamp: IntArray  # (N,) UTC seconds

    def __len__(self) -> int:
        return len(self.user_id)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items that have events, the most popular first."""

    movie_ids: IntArray  # (I,) distinct, with holes as in MovieLens
    clusters: IntArray  # (I,) place of the item's cluster on the ring, 0..cluster_count - 1
    cluster_count: int


def scaled(interactions: int) -> tuple[int, int]:
    """(users, items) for a table of this many rows; MovieLens-25M's own for its own size.

    The exponents lead from MovieLens-25M to MovieLens-100K's users and items at 100 000 rows: a smaller release has fewer
    users with fewer events each, and far fewer events for each item. Very small tables get items enough to choose from.
    """
    if interactions < MIN_EVENTS:
        raise ValueError(f"{interactions} interactions are fewer than the {MIN_EVENTS} of one user")
    ratio = interactions / INTERACTIONS
    users = min(max(round(USERS * ratio**0.93), 1), interactions // MIN_EVENTS)
    return users, max(round(ITEMS * ratio**0.65), math.ceil(4 * interactions / users))


def catalogue(items: int, seed: int) -> Catalogue:
    """Ids and clusters of the items that `events` of these arguments draws from.

    As in MovieLens-25M, some of the `items` have no event and are not in here.
    """
    rated = _rated(items)
    rng = np.random.default_rng([seed, 0])
    ids = rng.choice(max(round(HIGHEST_MOVIE_ID * items / ITEMS), rated), rated, replace=False) + 1
    count = min(CLUSTERS, max(1, rated // MIN_CLUSTER_ITEMS))
    # By rank in turn, so that every cluster has its share of popular and of rare items.
    clusters = rng.permutation(count)[np.arange(rated) % count]
    return Catalogue(ids.astype(np.int64), clusters.astype(np.int64), count)


def events(users: int = USERS, items: int = ITEMS, interactions: int = INTERACTIONS, seed: int = 0) -> EventTable:
    """A table of exactly `interactions` rows by `users` users on (nearly all of) `items` items; the same for the same seed.

    Every user draws items by popularity until he has as many different ones as he is to rate, so popular items saturate
    with the most active users; the weights that are drawn by make up for that (`_draw_weights`). One event of each item is
    set beforehand, as no rare item would be sure of one.
    """
    rated = _rated(items)
    if users < 1 or not users * MIN_EVENTS <= interactions <= users * rated:
        raise ValueError(
            f"{interactions} interactions do not fit {users} users with {MIN_EVENTS} to {rated} events each ({items} items)"
        )
    rng = np.random.default_rng([seed, 1])
    known = catalogue(items, seed)
    counts = _user_counts(users, rated, interactions, rng)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    weights = _draw_weights(counts, rated, interactions)
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]

    slots = rng.choice(interactions, min(rated, interactions), replace=False)
    preset = np.sort((np.searchsorted(offsets, slots, side="right") - 1) * rated + rng.permutation(rated)[: len(slots)])

    movie_id, timestamp = np.empty(interactions, dtype=np.int64), np.empty(interactions, dtype=np.int64)
    rating = np.empty(interactions, dtype=np.float32)
    rating_ends = np.cumsum(RATING_SHARES) / sum(RATING_SHARES)
    first = 0
    while first < users:
        end = max(int(np.searchsorted(offsets, offsets[first] + BLOCK_EVENTS, side="right")) - 1, first + 1)
        rows = slice(offsets[first], offsets[end])
        own = preset[slice(*np.searchsorted(preset, [first * rated, end * rated]))] - first * rated
        keys = _distinct_pairs(counts[first:end], own, weights, cumulative, rng)
        chosen = _in_order(keys // rated, keys % rated, known, end - first, rng)
        movie_id[rows] = known.movie_ids[chosen]
        timestamp[rows] = _times(counts[first:end], rng)
        # The last end is 1, and the numbers are below it.
        rating[rows] = (np.searchsorted(rating_ends[:-1], rng.random(len(keys)), side="right") + 1) / 2
        first = end
    return EventTable(np.repeat(np.arange(1, users + 1), counts), movie_id, rating, timestamp)


def sequences(table: EventTable) -> Sequences:
    """The table as the models take it; rows of one second keep the table's order."""
    from models.recommender import Sequences

    starts = np.concatenate([[0], np.flatnonzero(np.diff(table.user_id)) + 1])
    return Sequences(
        user_ids=table.user_id[starts],
        offsets=np.concatenate([starts, [len(table)]]),
        item_ids=table.movie_id,
        timestamps=table.timestamp,
    )


def marginals(table: EventTable) -> dict[str, Any]:
    """What the table reaches of `PUBLISHED`; items without an event do not count."""
    by_user, by_item = (np.bincount(ids)[1:] for ids in (table.user_id, table.movie_id))
    by_user, by_item = by_user[by_user > 0], np.sort(by_item[by_item > 0])
    rows, items = len(table), len(by_item)
    halves = np.bincount((table.rating * 2).astype(np.int64), minlength=11)[1:]
    return {
        "interactions": rows,
        "users": len(by_user),
        "rated_items": items,
        "events_per_user_min": int(by_user.min()),
        "events_per_user_median": float(np.median(by_user)),
        "events_per_user_mean": round(float(by_user.mean()), 2),
        "events_per_user_max": int(by_user.max()),
        "events_per_item_min": int(by_item[0]),
        "events_per_item_median": float(np.median(by_item)),
        "events_per_item_mean": round(float(by_item.mean()), 2),
        "events_per_item_max": int(by_item[-1]),
        "top_item_share": round(int(by_item[-1]) / rows, 5),
        "top_tenth_of_items_share": round(int(by_item[-max(1, items // 10) :].sum()) / rows, 4),
        "items_gini": round(float(1 + 1 / items - 2 * np.cumsum(by_item).sum() / (items * rows)), 4),
        "rating_shares": [round(float(share), 4) for share in halves / rows],
        "first_timestamp": int(table.timestamp.min()),
        "last_timestamp": int(table.timestamp.max()),
    }


def write_csv(table: EventTable, path: Path, chunk_rows: int = 1 << 20) -> None:
    """Write the table as MovieLens's ratings.csv; under `path` stands either a whole file or what stood there before."""
    import pyarrow as pa
    import pyarrow.csv

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    # As text: a number would lose the ".0" that MovieLens writes.
    texts = pa.array([f"{half / 2:.1f}" for half in range(11)])
    try:
        with partial.open("wb") as file:
            file.write(b"userId,movieId,rating,timestamp\n")
            for start in range(0, len(table), chunk_rows):
                rows = slice(start, start + chunk_rows)
                ratings = texts.take(pa.array((table.rating[rows] * 2).astype(np.int64)))
                columns = {
                    "userId": table.user_id[rows],
                    "movieId": table.movie_id[rows],
                    "rating": ratings,
                    "timestamp": table.timestamp[rows],
                }
                pyarrow.csv.write_csv(pa.table(columns), file, options)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main() -> None:
    """Make a table, write it, print the marginals that it reaches beside the published ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=INTERACTIONS, help="rows; users and items scale with them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("ratings.csv"))
    given = parser.parse_args()
    try:
        users, items = scaled(given.interactions)
    except ValueError as error:
        parser.error(str(error))
    table = events(users, items, given.interactions, given.seed)
    write_csv(table, given.out)
    reached = marginals(table)
    print(json.dumps({name: {"reached": reached[name], "published": PUBLISHED[name]} for name in PUBLISHED}, indent=2))


def _rated(items: int) -> int:
    return round(items * RATED_ITEMS / ITEMS)


def _fitted(shape: FloatArray, total: float, cap: float) -> FloatArray:
    """`shape` times one factor, cut at `cap`, so that it sums to `total` (or is all `cap` where that is less)."""
    low, high = 0.0, cap / float(shape.min())
    for _ in range(200):
        factor = (low + high) / 2
        low, high = (factor, high) if np.minimum(shape * factor, cap).sum() < total else (low, factor)
    return np.minimum(shape * high, cap)


def _user_counts(users: int, rated: int, interactions: int, rng: np.random.Generator) -> IntArray:
    """(users,) events of each user, MIN_EVENTS or more, of exactly this sum.

    Quantiles of the log-normal instead of draws from it: the tail of a heavy distribution is another with each seed.
    """
    from scipy.special import ndtri

    cap = min(rated, max(round(MAX_EVENTS * rated / RATED_ITEMS), math.ceil(4 * interactions / users)))
    normal = ndtri((np.arange(users) + 0.5) / users)
    above = _fitted(np.exp(USER_SIGMA * normal), interactions - users * MIN_EVENTS, cap - MIN_EVENTS)
    counts = np.floor(above).astype(np.int64)
    missing = interactions - users * MIN_EVENTS - int(counts.sum())
    # Rounding down leaves less than one event a user; whoever was cut short most, and has room, gets one.
    room = np.flatnonzero(counts < cap - MIN_EVENTS)
    counts[room[np.argsort(counts[room] - above[room], kind="stable")[:missing]]] += 1
    return rng.permutation(counts + MIN_EVENTS)


def _draw_weights(counts: IntArray, rated: int, interactions: int) -> FloatArray:
    """(rated,) weights to draw items by, the most popular first, so that their events come out as in `POPULARITY`.

    A user who draws with intensity a has item i with probability 1 - exp(-a w_i). The intensities that give the users their
    events and the weights that give the items theirs are found in turn, on users and items of like size together.
    """
    rank = np.arange(1, rated + 1)
    known = np.array(POPULARITY, dtype=np.float64)
    popularity = np.exp(np.interp(np.log((rank - 0.5) * RATED_ITEMS / rated), *np.log(known).T))
    # One event of each item is set; what is left of a rare item is small, but there must be something to draw.
    aim = _fitted(np.maximum(popularity - 1, 0.05), max(interactions - rated, 1), TOP_ITEM_REACH * len(counts))

    user_group, item_group = _log_groups(counts), _log_groups(rank)
    group_users, group_items = np.bincount(user_group), np.bincount(item_group)
    user_aim = np.bincount(user_group, counts) / group_users * max(interactions - rated, 1) / interactions
    item_aim = np.bincount(item_group, aim) / group_items
    intensity, weight = user_aim.copy(), item_aim / aim.sum()
    for _ in range(100):
        intensity *= user_aim / (-np.expm1(-np.outer(intensity, weight)) @ group_items)
        weight *= item_aim / (group_users @ -np.expm1(-np.outer(intensity, weight)))
    weights: FloatArray = aim * (weight / item_aim)[item_group]
    return weights


def _log_groups(sizes: IntArray) -> IntArray:
    """Group of each value, 0 upwards without holes: values of one group differ by a 16th of a doubling at most."""
    return np.unique(np.floor(16 * np.log2(sizes)), return_inverse=True)[1].astype(np.int64)


def _distinct_pairs(
    counts: IntArray, preset: IntArray, weights: FloatArray, cumulative: FloatArray, rng: np.random.Generator
) -> IntArray:
    """Sorted keys (user x items + item) of as many distinct items for each user as `counts` says, `preset` among them.

    Each user has the first `counts` distinct items of an endless stream of draws. Light users draw what they lack until they
    lack nothing. That takes long for a user of many items, who has all that is popular: there, an item's first appearance in
    the stream is drawn instead, which is exponential in time with the item's weight as its rate.
    """
    rated, users = len(weights), len(counts)
    heavy = counts > rated // 50
    done = []
    for user in np.flatnonzero(heavy):
        appears = rng.standard_exponential(rated) / weights
        appears[preset[slice(*np.searchsorted(preset, [user * rated, (user + 1) * rated]))] - user * rated] = -1.0
        done.append(user * rated + np.argpartition(appears, counts[user] - 1)[: counts[user]])

    wanted = np.where(heavy, 0, counts)
    keys = preset[~heavy[preset // rated]]
    lacks = wanted - np.bincount(keys // rated, minlength=users)
    while lacks.any():
        drawn = np.searchsorted(cumulative, rng.random(int(lacks.sum())), side="right")
        keys = np.sort(np.concatenate([keys, np.repeat(np.arange(users), lacks) * rated + drawn]))
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
        owner = keys // rated
        lacks = wanted - np.bincount(owner, minlength=users)
        unfinished = lacks > 0
        done.append(keys[~unfinished[owner]])
        keys = keys[unfinished[owner]]
        wanted = np.where(unfinished, wanted, 0)
    return np.sort(np.concatenate([*done, keys]))


def _in_order(user: IntArray, item: IntArray, known: Catalogue, users: int, rng: np.random.Generator) -> IntArray:
    """The items in the order in which each user comes upon them: once round the ring of clusters from a place of his own."""
    place = known.clusters[item] - rng.integers(known.cluster_count, size=users)[user]
    along = (place % known.cluster_count + rng.random(len(item))) / known.cluster_count
    stray = rng.random(len(item)) < STRAY_SHARE
    along[stray] = rng.random(int(stray.sum()))
    return item[np.argsort(user + along)]


def _times(counts: IntArray, rng: np.random.Generator) -> IntArray:
    """UTC seconds of each event, ascending for each user: sessions of small gaps, with long pauses between them.

    The start is anywhere from where the user still ends by LAST; pauses that do not fit in a user's span shrink together.
    """
    starts = np.cumsum(counts) - counts
    total = int(counts.sum())
    gaps = np.floor(GAP_MEDIAN_S * np.exp(GAP_SIGMA * rng.standard_normal(total)))
    pause = rng.random(total) < 1 / SESSION_EVENTS
    gaps[starts], pause[starts] = 0.0, False
    gaps[pause] = np.maximum(PAUSE_MEDIAN_S * np.exp(PAUSE_SIGMA * rng.standard_normal(int(pause.sum()))), PAUSE_MIN_S)
    within = np.add.reduceat(np.where(pause, 0.0, gaps), starts)
    between = np.add.reduceat(np.where(pause, gaps, 0.0), starts)
    span = (LAST - FIRST) * rng.uniform(LEAST_SPAN, 1.0, len(counts))
    shrink = np.minimum(1.0, np.maximum(span - within, 0.0) / np.maximum(between, 1.0))
    gaps[pause] = np.floor(gaps[pause] * np.repeat(shrink, counts)[pause])
    elapsed = np.cumsum(gaps.astype(np.int64))
    elapsed -= np.repeat(elapsed[starts], counts)
    slack = LAST - FIRST - elapsed[starts + counts - 1]
    return np.repeat(FIRST + np.floor(slack * rng.random(len(counts))).astype(np.int64), counts) + elapsed


if __name__ == "__main__":
    main()
