"""Turn a dataset's past into a feed: calendar slices, each delivered to a landing zone as an event file of its time.

The release is delivered unchanged, including bad rows, so validation, quarantine and the gate see what they would have seen.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from configs.clock import horizon
from configs.errors import ReplayError
from configs.studies import ReplaySettings, ShiftSettings
from models.columns import Columns
from models.identity import numbers_of
from tasks.ingest import IngestedSource, Mask, whole_numbers
from tasks.replay.scenarios import SCENARIOS
from tasks.tables import MILLISECONDS_FROM

__all__ = ["Feed", "Slice", "deliver", "edges", "feed_of", "write_feed"]

Length = Literal["day", "week", "month"]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Slice:
    """A span of time; number 0 is the base."""

    number: int
    start: int  # UTC seconds
    end: int  # UTC seconds, exclusive; at most one second after the source's last event
    rows: int  # in its event file, which is not written if there are none


@dataclass(frozen=True, eq=False)
class Feed:
    """The slices, with the data that each one delivers."""

    slices: tuple[Slice, ...]
    events: pd.DataFrame  # Columns.EVENT, in the source's order, after the scenario was planted
    slice_of: IntArray  # (N,) slice number of each event
    items: dict[int, pd.DataFrame]  # item descriptions, by the slice that delivers them
    users: dict[int, pd.DataFrame]
    last_person: int  # greatest user id of the release; users planted by a scenario have greater ids


def edges(first: int, last: int, length: Length) -> IntArray:
    """Return ascending UTC seconds that cut the time from `first` to `last` into calendar slices: n + 1 edges for n slices."""
    unit = {"day": "D", "week": "D", "month": "M"}[length]
    begin, end = (np.datetime64(second, "s").astype(f"datetime64[{unit}]") for second in (first, last))
    if length == "week":
        begin = begin - (begin.astype(np.int64) + 3) % 7  # 1970 started on a Thursday
    step = 7 if length == "week" else 1
    count = int((end - begin).astype(np.int64)) // step + 1
    found: IntArray = (begin + np.arange(count + 1) * step).astype("datetime64[s]").astype(np.int64)
    return found


def feed_of(source: IngestedSource, settings: ReplaySettings, now: float) -> Feed:
    """Cut the source into the base and the slices after it, and plant the scenario.

    If a row's time cannot be read, or validation at `now` (UTC seconds) would reject it, the row is delivered with the base.
    Otherwise a single such row could stretch the replay over years without events.

    Raises:
        ReplayError: The source has no event with a usable time, or too few slices.
    """
    _refuse_scenario(source, settings)
    columns = [name for name in (*Columns.EVENT, Columns.WEIGHT) if name in source.tables.interactions]
    raw = source.tables.interactions[columns]
    bounds = (max(settings.validation.earliest, 0), int(now) + settings.validation.max_future_s)
    plain = pd.Series(whole_numbers(raw["timestamp"])).between(*bounds).to_numpy()
    if not plain.any():
        raise ReplayError(
            f"No event of {source.name} has a time in UTC seconds between validation.earliest ({bounds[0]}) and now, so there is nothing "
            "to replay. Check the column timestamp."
        )
    times = _seconds(raw, bounds)
    known = times[times >= 0]
    # A single event with a possible but wild time would stretch the replay over years, too. It is delivered with the base.
    marks = edges(-horizon(-known), horizon(known), settings.slices)
    times = np.where(times < marks[-1], times, -1)
    if len(marks) - 1 <= settings.base_slices:
        raise ReplayError(
            f"{source.name} lasts {len(marks) - 1} calendar {settings.slices}s, and base_slices is {settings.base_slices}: nothing is "
            "left to replay. Lower base_slices, or choose shorter slices."
        )
    marks = np.concatenate([marks[:1], marks[settings.base_slices :]])
    if settings.most_slices is not None:
        marks = marks[: settings.most_slices + 2]
    ends = np.minimum(marks[1:], times.max() + 1)  # nothing is known about the time after the source's last event
    events, items = raw, _with_texts(source, source.tables.items, Columns.ITEM)
    users = _with_texts(source, source.tables.users, Columns.USER)
    delivered = {0: items} if items is not None else {}
    if settings.scenario is not None:
        events, planted = _planted(raw, plain, items, settings.scenario, marks)
        if items is not None and len(planted) > len(items):
            delivered[settings.scenario.from_slice] = planted.iloc[len(items) :]
        times = _seconds(events, bounds)
    slice_of = np.clip(np.searchsorted(marks, times, side="right") - 1, 0, None)
    inside = slice_of < len(marks) - 1
    events, slice_of = events[inside].reset_index(drop=True), slice_of[inside]
    rows = np.bincount(slice_of, minlength=len(marks) - 1)
    return Feed(
        slices=tuple(Slice(number, int(marks[number]), int(ends[number]), int(rows[number])) for number in range(len(rows))),
        events=events,
        slice_of=slice_of,
        items=delivered,
        users={0: users} if users is not None else {},
        # Nothing is planted into data with text ids, whose numbers may be any.
        last_person=int(whole_numbers(raw["user_id"]).max()) if not source.properties.text_columns else np.iinfo(np.int64).max,
    )


def _with_texts(source: IngestedSource, table: pd.DataFrame | None, key: str) -> pd.DataFrame | None:
    """Return a table of descriptions with the team's ids. If they are text, only what has events is described."""
    if table is None or key not in source.properties.text_columns:
        return table
    texts = source.tables.interactions[key].dropna().astype(str).unique()
    known = pd.Series(texts, index=numbers_of(pa.array(texts, pa.string())))
    return table.assign(**{key: table[key].map(known)}).dropna(subset=key)


def _refuse_scenario(source: IngestedSource, settings: ReplaySettings) -> None:
    """Check that the scenario can be planted into such data. Raises ReplayError if it cannot."""
    shift, properties = settings.scenario, source.properties
    if shift is None or (not properties.text_columns and (properties.feedback == "explicit" or shift.name != "rating-scale")):
        return
    why = "its ids are text, and planted users and items have numbers" if properties.text_columns else "its events have no rating"
    raise ReplayError(f"The scenario {shift.name} cannot be planted into {source.name}: {why}. Remove the scenario.")


def write_feed(feed: Feed, folder: Path) -> None:
    """Write the files of every slice, ready for `deliver`.

    Files left by a run with other settings or another store are replaced or removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = set()
    order = np.argsort(feed.slice_of, kind="stable")
    ends = np.cumsum([part.rows for part in feed.slices])
    for part, end in zip(feed.slices, ends, strict=True):
        tables = {"events": feed.events.iloc[order[end - part.rows : end]], "items": feed.items.get(part.number)}
        for kind, table in {**tables, "users": feed.users.get(part.number)}.items():
            path = folder / f"{kind}-{part.number:04d}.csv"
            if table is not None and not table.empty:
                partial = path.with_name(f".{path.name}")
                table.to_csv(partial, index=False)
                written.add(partial.replace(path).name)
    _remove_others(written, folder)


def deliver(part: Slice, folder: Path, zone: Path) -> list[Path]:
    """Put the slice's files into the landing zone, each atomically and dated as if written when the slice ended.

    Files of other slices are removed. The dataset already has the earlier ones. A later one, left by a replay with another store,
    would be read too early.
    """
    zone.mkdir(parents=True, exist_ok=True)
    sources = sorted(folder.glob(f"*-{part.number:04d}.csv"))
    _remove_others({source.name for source in sources}, zone)
    delivered = []
    for source in sources:
        partial = zone / f".{source.name}"
        shutil.copyfile(source, partial)
        os.utime(partial, (part.end, part.end))
        delivered.append(partial.replace(zone / source.name))
    return delivered


def _remove_others(names: set[str], folder: Path) -> None:
    """Remove the slice files whose names are not in `names`."""
    for path in folder.glob("*-[0-9]*.csv"):
        if path.name not in names:
            path.unlink()


def _planted(
    raw: pd.DataFrame, plain: Mask, items: pd.DataFrame | None, shift: ShiftSettings, marks: IntArray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return events and items after the scenario. Rows that are not numeric, or whose time is unusable, stay unchanged."""
    if shift.from_slice > len(marks) - 2:
        raise ReplayError(
            f"scenario.from_slice is {shift.from_slice}, but there are only {len(marks) - 2} slices after the base. Lower it."
        )
    columns = {name: whole_numbers(raw[name]) for name in Columns.EVENT if name != Columns.RATING}
    ratings = raw[Columns.RATING] if Columns.RATING in raw else pd.Series(1.0, index=raw.index)
    numbers = raw.assign(**columns, rating=pd.to_numeric(ratings, errors="coerce").astype(np.float64))
    whole = (numbers[list(Columns.EVENT)] >= 0).all(axis=1).to_numpy() & plain
    events = numbers[whole].reset_index(drop=True)
    if items is None:
        empty = {"title": pd.Series(dtype="string"), "year": pd.Series(dtype="Int64"), "genres": pd.Series(dtype="string")}
        ids = events["item_id"].unique()
        items = pd.DataFrame({"item_id": ids, **{name: column.reindex(range(len(ids))) for name, column in empty.items()}})
    shifted, described = SCENARIOS[shift.name](events, items, since=int(marks[shift.from_slice]), seed=shift.seed)
    return pd.concat([shifted, raw[~whole]], ignore_index=True)[list(raw.columns)], described


def _seconds(events: pd.DataFrame, bounds: tuple[int, int]) -> IntArray:
    """UTC seconds of each event, or -1 if its time cannot be read or is out of bounds. Times in milliseconds are converted."""
    times = whole_numbers(events["timestamp"])
    times = np.where(times > MILLISECONDS_FROM, times // 1000, times)
    return np.where((times >= bounds[0]) & (times <= bounds[1]), times, -1)
