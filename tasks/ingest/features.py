"""Build the features of each event from what is known at that event, and never from later events.

The features are stored with the dataset version, for drift monitoring and as the offline side of a feature store. user_idx and
item_idx number the ids of the complete table. All other columns of a row depend only on events up to and including its second. An
event that a later one of the same user and item supersedes has no row, but it did happen: it counts for the rows after it.
Otherwise a correction would change the features of rows that are older than itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from models.columns import Columns
from tasks.tables import ParquetWriter, partition_by_key, sorted_order

__all__ = [
    "FEATURE_COLUMNS",
    "SESSION_GAP_S",
    "build_features",
    "counts_before",
    "earlier_events",
    "user_features",
    "whole_users",
    "write_features",
]

SESSION_GAP_S = 1800
DAY_S = 86_400
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday
FEATURE_COLUMNS = list(Columns.FEATURE)
IntArray = npt.NDArray[np.int64]


def build_features(interactions: pd.DataFrame, superseded: pd.DataFrame | None = None) -> pd.DataFrame:
    """Build one row of FEATURE_COLUMNS for each row of `interactions` (sorted by user_id, timestamp, item_id).

    - user_idx, item_idx: dense indices, by ascending id.
    - rating_date: days since 1970-01-01, UTC. rating_weekday: 0 is Monday.
    - gap_s: seconds since the user's previous event, -1 for the first one.
    - session_id: from 0 for each user. A new session starts after SESSION_GAP_S without an event.
    - *_events_before: number of events in strictly earlier seconds.
    - weight: as in `interactions`, if events have one.

    Args:
        superseded: Events with Columns.HAPPENED that later ones of the same user and item supersede. They have no row, but count.
    """
    users, items, times = (interactions[name].to_numpy(np.int64) for name in Columns.HAPPENED)
    earlier = None if superseded is None or superseded.empty else earlier_events(superseded, [interactions])
    before = counts_before(items, times, earlier)
    return user_features(interactions, np.unique(users), np.unique(items), before, superseded=earlier)


def earlier_events(superseded: pd.DataFrame, kept: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the superseded events that happened before the event that counts: distinct ones, by user, item, time.

    An event of the same second as the one that counts is the same event, delivered twice.

    Args:
        superseded: Events with Columns.HAPPENED.
        kept: The events that count, in pieces.
    """
    names = list(Columns.HAPPENED)
    found = superseded[names].astype(np.int64).drop_duplicates().sort_values(names, ignore_index=True)
    if found.empty:
        return found
    users = found[Columns.USER].unique()
    same = [piece.loc[piece[Columns.USER].isin(users), names].astype(np.int64) for piece in kept]
    marked = found.merge(pd.concat([found.head(0), *same]).drop_duplicates(), on=names, how="left", indicator=True)
    return found[(marked["_merge"] == "left_only").to_numpy()].reset_index(drop=True)


def write_features(
    interactions: Path,
    out: Path,
    *,
    memory_rows: int,
    superseded: pd.DataFrame | None = None,
    check: Callable[[pd.DataFrame], object] = lambda _: None,
) -> tuple[IntArray, IntArray]:
    """Apply `build_features` to a Parquet file of events, and write the result to another Parquet file atomically.

    At most `memory_rows` events are in memory at once (or those of one user or item, if there are more), plus 8 bytes for each
    user and item, and the superseded events.

    Args:
        interactions: The events, sorted by user_id, timestamp, item_id.
        superseded: What `earlier_events` returned for these events.
        check: Called with the events of some users at a time, until it has seen all events.

    Returns:
        The ids of all users and of all items, ascending.
    """
    rows = pq.read_metadata(interactions).num_rows
    with tempfile.TemporaryDirectory(prefix="features-", dir=out.parent) as folder, ParquetWriter(out) as writer:
        before: IntArray = np.zeros(0, dtype=np.int64)
        if rows:  # an empty file cannot be memory-mapped
            before = np.memmap(Path(folder) / "counts", dtype=np.int64, mode="w+", shape=(rows,))
        item_ids = []
        columns = [Columns.ITEM, Columns.TIME]
        for table in partition_by_key([interactions], columns, Columns.ITEM, memory_rows, Path(folder), position=True):
            items, times, position = (table.column(name).to_numpy() for name in (*columns, Columns.POSITION))
            before[position] = counts_before(items, times, superseded)
            item_ids.append(np.unique(items))
        known = np.concatenate([np.zeros(0, dtype=np.int64), *item_ids])
        if not rows:
            writer.write(build_features(pd.read_parquet(interactions)))
        start, all_users = 0, [np.zeros(0, dtype=np.int64)]
        first_user = 0
        for events in whole_users(interactions, memory_rows):
            check(events)
            user_ids = np.unique(events[Columns.USER].to_numpy())
            end = start + len(events)
            counts = np.asarray(before[start:end])
            writer.write(user_features(events, user_ids, known, counts, first_user=first_user, superseded=superseded))
            start, first_user = end, first_user + len(user_ids)
            all_users.append(user_ids)
    return np.concatenate(all_users), known


def whole_users(interactions: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yield the events of a Parquet file sorted by user_id, about `rows` at a time. All events of a user come together."""
    rest: list[pd.DataFrame] = []
    with pq.ParquetFile(interactions) as file:
        for batch in file.iter_batches(rows):
            frame = batch.to_pandas()
            users = frame[Columns.USER].to_numpy()
            cut = int(np.searchsorted(users, users[-1]))  # the last user's first event
            if cut or (rest and rest[-1][Columns.USER].iloc[-1] != users[0]):
                yield pd.concat([*rest, frame.iloc[:cut]], ignore_index=True)
                rest = []
            rest.append(frame.iloc[cut:])
    if rest:
        yield pd.concat(rest, ignore_index=True)


def user_features(
    events: pd.DataFrame,
    user_ids: IntArray,
    item_ids: IntArray,
    item_events_before: IntArray,
    first_user: int = 0,
    superseded: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Build FEATURE_COLUMNS for all events of some users.

    Args:
        events: All events of these users, sorted by user_id, timestamp, item_id.
        user_ids: The ids of these users, ascending.
        item_ids: The ids of all items in the complete table, ascending.
        item_events_before: Shape (len(events),).
        first_user: The user_idx of the first of these users.
        superseded: What `earlier_events` returned, of these users and maybe others.
    """
    own = None if superseded is None else superseded[superseded[Columns.USER].isin(user_ids)]
    if own is not None and len(own):
        both = pd.concat([events.drop(columns=Columns.ROW, errors="ignore"), own], ignore_index=True)
        order = np.lexsort([both[name].to_numpy(np.int64) for name in (Columns.ITEM, Columns.TIME, Columns.USER)])
        counts = np.concatenate([item_events_before, np.zeros(len(own), dtype=np.int64)])[order]
        built = user_features(both.iloc[order].reset_index(drop=True), user_ids, item_ids, counts, first_user)
        return built[order < len(events)].reset_index(drop=True)
    users, items, times = (events[name].to_numpy(np.int64) for name in Columns.HAPPENED)
    first = np.append(True, users[1:] != users[:-1])[: len(users)]
    second = first | np.append(True, times[1:] != times[:-1])[: len(users)]
    gaps = np.where(first, -1, np.diff(times, prepend=times[:1]))
    sessions = np.cumsum(gaps > SESSION_GAP_S)
    places = np.arange(len(users))
    row_of_first = np.maximum.accumulate(np.where(first, places, 0))
    row_of_second = np.maximum.accumulate(np.where(second, places, 0))
    days = times // DAY_S
    year, month = _calendar(days)
    weight = {Columns.WEIGHT: events[Columns.WEIGHT].to_numpy(np.float64)} if Columns.WEIGHT in events else {}
    return pd.DataFrame(
        {
            Columns.USER: users,
            Columns.ITEM: items,
            Columns.USER_INDEX: first_user + np.cumsum(first) - 1,
            Columns.ITEM_INDEX: np.searchsorted(item_ids, items),
            Columns.RATING: events[Columns.RATING].to_numpy(np.float64),
            Columns.TIME: times,
            Columns.RATING_DATE: days.astype(np.int32),
            Columns.RATING_YEAR: year,
            Columns.RATING_MONTH: month,
            Columns.RATING_WEEKDAY: ((days + EPOCH_WEEKDAY) % 7).astype(np.int32),
            Columns.RATING_HOUR: (times % DAY_S // 3600).astype(np.int32),
            Columns.GAP: gaps,
            Columns.SESSION: (sessions - sessions[row_of_first]).astype(np.int64),
            Columns.USER_EVENTS_BEFORE: row_of_second - row_of_first,
            Columns.ITEM_EVENTS_BEFORE: item_events_before,
            **weight,
        },
        copy=False,  # 25 million rows take 2.5 GB
    )


def counts_before(ids: IntArray, times: IntArray, superseded: pd.DataFrame | None = None) -> IntArray:
    """Return, for each event, the number of events with the same id in strictly earlier seconds.

    Args:
        ids: Item ids of the events.
        times: Their UTC seconds.
        superseded: What `earlier_events` returned, of these items and maybe others. They are counted, but have no count.
    """
    own = None if superseded is None else superseded[superseded[Columns.ITEM].isin(np.unique(ids))]
    if own is not None and len(own):
        more_ids, more_times = (own[name].to_numpy(np.int64) for name in (Columns.ITEM, Columns.TIME))
        return counts_before(np.concatenate([ids, more_ids]), np.concatenate([times, more_times]))[: len(ids)]
    order = sorted_order(ids, times)
    sorted_ids, sorted_times = ids[order], times[order]
    places = np.arange(len(ids))
    new_id = np.append(True, sorted_ids[1:] != sorted_ids[:-1])[: len(ids)]
    new_second = new_id | np.append(True, sorted_times[1:] != sorted_times[:-1])[: len(ids)]
    id_start = np.maximum.accumulate(np.where(new_id, places, 0))
    second_start = np.maximum.accumulate(np.where(new_second, places, 0))
    before = np.empty(len(ids), dtype=np.int64)
    before[order] = second_start - id_start
    return before


def _calendar(days: IntArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return (year, month) of days since 1970-01-01.

    Years have few days, so each day is looked up in a table of all days from the first to the last.
    """
    if len(days) == 0:
        return days.astype(np.int32), days.astype(np.int32)
    low = int(days.min())
    months = np.arange(low, int(days.max()) + 1).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    year, month = 1970 + months // 12, months % 12 + 1
    return year.astype(np.int32)[days - low], month.astype(np.int32)[days - low]
