"""Planted shifts: changes that can happen to a feed of events, as pure functions on event frames.

Tests, benchmarks and replays use them. Events have user_id, item_id, rating and timestamp (UTC seconds); items have item_id,
title, year and genres. Everything before `since` stays unchanged. The shifts are artificial. Each starts at a known time, so the
delay until it is found can be measured.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from configs.studies import ScenarioName

__all__ = ["SCENARIOS", "bot_users", "feed_outage", "genre_surge", "milliseconds", "rating_scale", "thinned"]

Shifted = tuple[pd.DataFrame, pd.DataFrame]
DAY_S = 86_400
SURGE_ITEMS, BOT_ITEMS, BOT_EVENTS, BOT_GAP_S = 60, 60, 50, 1


def genre_surge(
    events: pd.DataFrame, items: pd.DataFrame, *, since: int, share: float = 0.3, genre: str = "Telenovela", seed: int = 0
) -> Shifted:
    """From `since` on, about `share` of the events are on SURGE_ITEMS new items of a new genre.

    A user meets each of these items at most once.
    """
    rng = np.random.default_rng(seed)
    added = int(items["item_id"].max()) + 1 + np.arange(SURGE_ITEMS)
    moved = np.flatnonzero((events["timestamp"].to_numpy() >= since) & (rng.random(len(events)) < share))
    users = events["user_id"].to_numpy()[moved]
    # A user's n-th event takes the n-th item in the user's own order of the new items; most orders start with the popular ones.
    order = np.argsort(rng.random((len(np.unique(users)), SURGE_ITEMS)) ** (1 + np.arange(SURGE_ITEMS) / 10), axis=1)[:, ::-1]
    nth = pd.Series(users).groupby(users).cumcount().to_numpy()
    fits = nth < SURGE_ITEMS
    codes = np.unique(users, return_inverse=True)[1]
    changed = events["item_id"].to_numpy(copy=True)
    changed[moved[fits]] = added[order[codes[fits], nth[fits]]]
    new = pd.DataFrame(
        {
            "item_id": added,
            "title": [f"Wave {number}" for number in range(1, SURGE_ITEMS + 1)],
            "year": items["year"].max() if len(items) else pd.NA,
            "genres": genre,
        }
    )
    described = pd.concat([items, new.astype(items.dtypes.to_dict())[list(items.columns)]], ignore_index=True)
    return events.assign(item_id=changed), described


def bot_users(events: pd.DataFrame, items: pd.DataFrame, *, since: int, share: float = 0.3, seed: int = 0) -> Shifted:
    """From `since` on, about `share` of the events are by new users who give 5 stars to the same few items, one per second."""
    rng = np.random.default_rng(seed)
    after = events.loc[events["timestamp"] >= since, "timestamp"]
    if after.empty:
        return events, items
    bots = max(1, round(len(after) * share / (1 - share) / BOT_EVENTS))
    pushed = rng.choice(items["item_id"].to_numpy(np.int64), size=min(BOT_ITEMS, len(items)), replace=False)
    each = min(BOT_EVENTS, len(pushed))
    begins = rng.integers(since, int(after.max()) + 1, size=bots)
    made = pd.DataFrame(
        {
            "user_id": np.repeat(int(events["user_id"].max()) + 1 + np.arange(bots), each),
            "item_id": np.concatenate([rng.permutation(pushed)[:each] for _ in range(bots)]),
            "rating": 5.0,
            "timestamp": np.repeat(begins, each) + np.tile(np.arange(each) * BOT_GAP_S, bots),
        }
    )
    if "row" in events:
        made["row"] = int(events["row"].max()) + 1 + np.arange(len(made))
    columns = list(events.columns)
    return pd.concat([events, made[columns].astype(events.dtypes.to_dict())], ignore_index=True), items


def rating_scale(events: pd.DataFrame, items: pd.DataFrame, *, since: int, factor: float = 2.0, seed: int = 0) -> Shifted:
    """From `since` on, ratings use another scale: ten stars instead of five."""
    after = (events["timestamp"] >= since).to_numpy()
    ratings = events["rating"].to_numpy(np.float64)
    return events.assign(rating=np.where(after, ratings * factor, ratings)), items


def milliseconds(events: pd.DataFrame, items: pd.DataFrame, *, since: int, seed: int = 0) -> Shifted:
    """From `since` on, timestamps are in milliseconds."""
    times = events["timestamp"].to_numpy(np.int64)
    return events.assign(timestamp=np.where(times >= since, times * 1000, times)), items


def feed_outage(events: pd.DataFrame, items: pd.DataFrame, *, since: int, seconds: int = 30 * DAY_S, seed: int = 0) -> Shifted:
    """No events arrive for `seconds` from `since` on, and the events of that time are lost."""
    times = events["timestamp"]
    return events[(times < since) | (times >= since + seconds)].reset_index(drop=True), items


def thinned(events: pd.DataFrame, items: pd.DataFrame, *, since: int, lost: float = 0.9, seed: int = 0) -> Shifted:
    """From `since` on, all events of the share `lost` of the users are lost, as if one of several collectors were down."""
    rng = np.random.default_rng(seed)
    users = np.unique(events["user_id"])
    gone = users[rng.random(len(users)) < lost]
    dropped = (events["timestamp"] >= since) & events["user_id"].isin(gone)
    return events[~dropped].reset_index(drop=True), items


SCENARIOS: dict[ScenarioName, Callable[..., Shifted]] = {
    "genre-surge": genre_surge,
    "bot-users": bot_users,
    "rating-scale": rating_scale,
    "milliseconds": milliseconds,
    "feed-outage": feed_outage,
    "partial-outage": thinned,
}
"""Each takes (events, items, *, since, seed) and returns new events and items."""
