"""Synthetic events with MovieLens-25M's marginals: `python -m benchmarks.pipeline.synthetic_events --interactions N --out ratings.csv`.

The table can have any size. The number of events per user and per item, the ratings and the times follow MovieLens-25M.

The order of the events is artificial, and a model can learn it. Items belong to clusters on a ring, and each user goes round the
ring once. Neighbours in time therefore come from one arc of the ring, and a session stays within a few clusters. A share of the
events (`STRAY_SHARE`) is placed at random.

Which items a user rates depends only on their popularity, so a model that ignores the order cannot learn anything beyond
popularity. Ratings are independent of everything else. Items have no release dates: all of them exist from the start.
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
"""Counts of MovieLens-25M (its README). ITEMS counts its movies.csv; RATED_ITEMS of these have a rating."""
RATED_ITEMS = 59_047
MIN_EVENTS = 20
"""Minimum number of ratings per user: MovieLens leaves out users with fewer."""
MAX_EVENTS = 32_202
HIGHEST_MOVIE_ID = 209_171
FIRST, LAST = 789_652_009, 1_574_327_703
"""UTC seconds of the first and the last rating: 1995-01-09 11:46:49 and 2019-11-21 09:15:03."""
RATING_SHARES = (0.016, 0.031, 0.017, 0.066, 0.051, 0.196, 0.127, 0.266, 0.088, 0.145)
"""Shares of the ratings 0.5, 1.0, ... 5.0."""

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
"""Marginals from MovieLens-25M's README and ratings.csv; the Gini index is from LensKit Codex. Same keys as `marginals`."""

USER_SIGMA = 1.389
"""Sigma of the log-normal number of a user's events above MIN_EVENTS: its mean over its median is (153.8 - 20) / (71 - 20)."""
POPULARITY = (
    *((1, 81_491), (10, 65_500), (100, 35_000), (1000, 6150), (3800, 985), (6000, 440)),
    *((10_300, 115), (24_000, 11), (29_500, 6), (40_000, 2.5), (46_000, 1.6), (RATED_ITEMS, 0.7)),
)
"""(rank, events) of items, log-linear in between. Chosen to match the published top item, median, top tenth and Gini index."""
TOP_ITEM_REACH = 81_491 / USERS
"""Share of users who rated the most popular item. Smaller releases have about the same share (MovieLens-1M 0.57)."""
CLUSTERS = 256
MIN_CLUSTER_ITEMS = 8
STRAY_SHARE = 0.2
SESSION_EVENTS = 50
"""Mean number of events per session."""
GAP_MEDIAN_S, GAP_SIGMA = 2.0, 1.5
"""Log-normal seconds between events of a session, rounded down. A third are 0; 19 of 20 are below half a minute."""
PAUSE_MEDIAN_S, PAUSE_SIGMA, PAUSE_MIN_S = 20 * 86_400.0, 2.0, 3600
"""Log-normal seconds between sessions. Most are weeks, some are hours or years."""
LEAST_SPAN = 0.1
"""A user's events span at most a share of FIRST..LAST. It is drawn per user, from between this value and 1."""
BLOCK_EVENTS = 1 << 20
"""Number of events generated at once. It bounds the size of temporaries, whatever the size of the table."""


@dataclass(frozen=True, eq=False)
class EventTable:
    """N events sorted by user, then time. Each (user, item) pair occurs at most once."""

    user_id: IntArray  # (N,) 1..users
    item_id: IntArray  # (N,)
    rating: npt.NDArray[np.float32]  # (N,) 0.5, 1.0, ... 5.0
    timestamp: IntArray  # (N,) UTC seconds

    def __len__(self) -> int:
        return len(self.user_id)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items that have events, the most popular first."""

    item_ids: IntArray  # (I,) distinct, with gaps as in MovieLens
    clusters: IntArray  # (I,) position of the item's cluster on the ring, 0..cluster_count - 1
    cluster_count: int


def scaled(interactions: int) -> tuple[int, int]:
    """Return (users, items) for a table with this many rows. At MovieLens-25M's size, these are its own numbers.

    The exponents are chosen so that 100 000 rows give MovieLens-100K's users and items. A smaller release has fewer users with
    fewer events each, and far fewer events per item. Very small tables get enough items to choose from.

    Raises:
        ValueError: there are too few interactions for one user.
    """
    if interactions < MIN_EVENTS:
        raise ValueError(f"{interactions} interactions are fewer than the {MIN_EVENTS} of one user")
    ratio = interactions / INTERACTIONS
    users = min(max(round(USERS * ratio**0.93), 1), interactions // MIN_EVENTS)
    return users, max(round(ITEMS * ratio**0.65), math.ceil(4 * interactions / users))


def catalogue(items: int, seed: int) -> Catalogue:
    """Return the ids and clusters of the items that `events` draws from with the same arguments.

    As in MovieLens-25M, some of the `items` have no event; the result leaves them out.
    """
    rated = _rated(items)
    rng = np.random.default_rng([seed, 0])
    ids = rng.choice(max(round(HIGHEST_MOVIE_ID * items / ITEMS), rated), rated, replace=False) + 1
    count = min(CLUSTERS, max(1, rated // MIN_CLUSTER_ITEMS))
    # Clusters are assigned by rank in turn, so that each one has its share of popular and rare items.
    clusters = rng.permutation(count)[np.arange(rated) % count]
    return Catalogue(ids.astype(np.int64), clusters.astype(np.int64), count)


def events(users: int = USERS, items: int = ITEMS, interactions: int = INTERACTIONS, seed: int = 0) -> EventTable:
    """Make a table of exactly `interactions` rows by `users` users on (nearly all of) `items` items.

    The same arguments give the same table. Every user draws items by popularity until the required number of distinct items is
    reached. Popular items therefore saturate among the most active users, and the drawing weights compensate for that
    (`_draw_weights`). Each item gets one event beforehand, because a rare item might otherwise have none.

    Raises:
        ValueError: the interactions do not fit the users and items.
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

    item_id, timestamp = np.empty(interactions, dtype=np.int64), np.empty(interactions, dtype=np.int64)
    rating = np.empty(interactions, dtype=np.float32)
    rating_ends = np.cumsum(RATING_SHARES) / sum(RATING_SHARES)
    first = 0
    while first < users:
        end = max(int(np.searchsorted(offsets, offsets[first] + BLOCK_EVENTS, side="right")) - 1, first + 1)
        rows = slice(offsets[first], offsets[end])
        own = preset[slice(*np.searchsorted(preset, [first * rated, end * rated]))] - first * rated
        keys = _distinct_pairs(counts[first:end], own, weights, cumulative, rng)
        chosen = _in_order(keys // rated, keys % rated, known, end - first, rng)
        item_id[rows] = known.item_ids[chosen]
        timestamp[rows] = _times(counts[first:end], rng)
        # The last end is 1, and the random numbers are below 1.
        rating[rows] = (np.searchsorted(rating_ends[:-1], rng.random(len(keys)), side="right") + 1) / 2
        first = end
    return EventTable(np.repeat(np.arange(1, users + 1), counts), item_id, rating, timestamp)


def sequences(table: EventTable) -> Sequences:
    """Convert the table to the models' input. Rows of the same second keep the order of the table."""
    from models.recommender import Sequences

    starts = np.concatenate([[0], np.flatnonzero(np.diff(table.user_id)) + 1])
    return Sequences(
        user_ids=table.user_id[starts],
        offsets=np.concatenate([starts, [len(table)]]),
        item_ids=table.item_id,
        timestamps=table.timestamp,
    )


def marginals(table: EventTable) -> dict[str, Any]:
    """Compute the table's values of the figures in `PUBLISHED`. Items without an event do not count."""
    by_user, by_item = (np.bincount(ids)[1:] for ids in (table.user_id, table.item_id))
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
    """Write the table in the format of MovieLens's ratings.csv. The write is atomic: `path` is replaced only when complete."""
    import pyarrow as pa
    import pyarrow.csv

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    # Ratings are written as text, because a number would lose the ".0" that MovieLens writes.
    texts = pa.array([f"{half / 2:.1f}" for half in range(11)])
    try:
        with partial.open("wb") as file:
            file.write(b"userId,movieId,rating,timestamp\n")
            for start in range(0, len(table), chunk_rows):
                rows = slice(start, start + chunk_rows)
                ratings = texts.take(pa.array((table.rating[rows] * 2).astype(np.int64)))
                columns = {
                    "userId": table.user_id[rows],
                    "movieId": table.item_id[rows],
                    "rating": ratings,
                    "timestamp": table.timestamp[rows],
                }
                pyarrow.csv.write_csv(pa.table(columns), file, options)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main() -> None:
    """Make a table, write it, and print its marginals next to the published ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=INTERACTIONS, help="number of rows; users and items scale with it")
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
    """Scale `shape` by one factor and clip it at `cap` so that it sums to `total` (or is all `cap` if that sum is smaller)."""
    low, high = 0.0, cap / float(shape.min())
    for _ in range(200):
        factor = (low + high) / 2
        low, high = (factor, high) if np.minimum(shape * factor, cap).sum() < total else (low, factor)
    return np.minimum(shape * high, cap)


def _user_counts(users: int, rated: int, interactions: int, rng: np.random.Generator) -> IntArray:
    """Return (users,) the number of events of each user: at least MIN_EVENTS each, and exactly `interactions` in total.

    Uses quantiles of the log-normal instead of draws, because the tail of a heavy distribution varies with the seed.
    """
    from scipy.special import ndtri

    cap = min(rated, max(round(MAX_EVENTS * rated / RATED_ITEMS), math.ceil(4 * interactions / users)))
    normal = ndtri((np.arange(users) + 0.5) / users)
    above = _fitted(np.exp(USER_SIGMA * normal), interactions - users * MIN_EVENTS, cap - MIN_EVENTS)
    counts = np.floor(above).astype(np.int64)
    missing = interactions - users * MIN_EVENTS - int(counts.sum())
    # Rounding down loses less than one event per user. Users below the cap with the largest remainders get the lost events.
    room = np.flatnonzero(counts < cap - MIN_EVENTS)
    counts[room[np.argsort(counts[room] - above[room], kind="stable")[:missing]]] += 1
    return rng.permutation(counts + MIN_EVENTS)


def _draw_weights(counts: IntArray, rated: int, interactions: int) -> FloatArray:
    """Return (rated,) drawing weights, the most popular item first, that give the items the events of `POPULARITY`.

    A user who draws with intensity a has item i with probability 1 - exp(-a w_i). Two steps alternate: fit the intensities to the
    users' event counts, and fit the weights to the items' event counts. Users and items of similar size are grouped.
    """
    rank = np.arange(1, rated + 1)
    known = np.array(POPULARITY, dtype=np.float64)
    popularity = np.exp(np.interp(np.log((rank - 0.5) * RATED_ITEMS / rated), *np.log(known).T))
    # One event of each item is preset. The rest of a rare item is small, but its weight must stay above zero.
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
    """Return the group of each value, numbered from 0 without gaps. Values of a group differ by at most a 16th of a doubling."""
    return np.unique(np.floor(16 * np.log2(sizes)), return_inverse=True)[1].astype(np.int64)


def _distinct_pairs(
    counts: IntArray, preset: IntArray, weights: FloatArray, cumulative: FloatArray, rng: np.random.Generator
) -> IntArray:
    """Return sorted keys (user x items + item) with `counts` distinct items for each user, including the `preset` keys.

    Each user gets the first `counts` distinct items of an endless stream of draws. Light users draw the missing number of items
    again and again until none is missing. That is slow for a user with many items, who already has all popular ones. For such
    users, the first appearance of each item in the stream is drawn instead. It is exponential in time, with the item's weight as
    its rate.
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
    """Order each user's items: once round the ring of clusters, from a random starting point per user."""
    place = known.clusters[item] - rng.integers(known.cluster_count, size=users)[user]
    along = (place % known.cluster_count + rng.random(len(item))) / known.cluster_count
    stray = rng.random(len(item)) < STRAY_SHARE
    along[stray] = rng.random(int(stray.sum()))
    return item[np.argsort(user + along)]


def _times(counts: IntArray, rng: np.random.Generator) -> IntArray:
    """Draw UTC seconds of each event, ascending for each user: sessions with small gaps, and long pauses between them.

    The start is random, but early enough for the user to end by LAST. If the pauses do not fit into a user's span, all of them
    shrink by the same factor.
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
