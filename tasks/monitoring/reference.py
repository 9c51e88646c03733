"""The reference that new events are compared with: sampled users, counts by item and user, and a history of event arrivals.

It is stored with each model version. Events come in sittings: a hundred ratings by one user are one opinion, not a hundred. So
complete users are sampled, and the null distribution of a slice is found by drawing users. Some figures of a slice need the past
for comparison: how fast events arrive, how many are by new users, how long nothing happens. `History` keeps these figures of the
reference's own past, measured in windows with as many events as a slice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.errors import DataRefusedError, VersionCorruptError
from configs.settings import DriftSettings
from models.columns import Columns
from tasks.datasets import Quarantine
from tasks.monitoring.traits import REPEATED, Descriptions, repeated_events
from tasks.tables import read_parquet

__all__ = [
    "FILES",
    "LEAST_USERS",
    "NEVER",
    "ROWS_OF_A_USER",
    "History",
    "Reference",
    "SpanRow",
    "WindowRow",
    "capped_by_user",
    "history_of",
    "in_user_order",
    "jensen_shannon",
    "newcomer_share",
    "reference_of",
    "sampled",
    "session_events",
    "without_strays",
]

SAMPLE_FILE = "reference_sample.parquet"
COUNTS_FILE = "reference_counts.parquet"
HISTORY_FILE = "reference_history.json"
FILES = (SAMPLE_FILE, COUNTS_FILE, HISTORY_FILE)
ROWS_OF_A_USER = 500
"""Maximum rows per user on either side of a comparison: a bot with 10 000 ratings is one user."""
LEAST_USERS = 20
"""Users of a reference; fewer are not enough for a null distribution."""
HISTORY_EVENTS = 2_000_000
SMALLEST_WINDOW, LEAST_WINDOWS, MOST_WINDOWS = 125, 8, 500
SILENCES = 30
REMEMBERED = 4  # a user is known if the last event is at most this part of the past ago
NEVER = int(np.iinfo(np.int64).min) // 2  # time of the event before a user's first one
SPANS_S = (3600, 6 * 3600, 86_400, 7 * 86_400, 28 * 86_400)
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WindowRow:
    """The past, cut into consecutive windows of `events` events: means and standard deviations over `windows` windows."""

    events: int
    windows: int
    log_rate: float  # natural logarithm of events per second
    log_rate_sd: float
    new_users: float  # arcsine of the root of the share of events by new users (`History.memory_s`)
    new_users_sd: float
    log_hour_distance: float  # logarithm of the Jensen-Shannon distance between a window's hours and those of all the past
    log_hour_distance_sd: float
    log_weekday_distance: float
    log_weekday_distance_sd: float
    new_users_windows: int = 0  # windows that new_users is measured on; 0: all


@dataclass(frozen=True)
class SpanRow:
    """The past, cut into consecutive windows of `seconds`: mean and standard deviation over `windows` windows.

    Windows of equal length have as many nights and weekends each, which windows of equally many events have not.
    """

    seconds: int
    windows: int
    events: float  # mean
    root: float  # mean of the root of (events + 3/8), whose spread does not depend on the mean (Anscombe 1948)
    root_sd: float
    hour_distance: float | None = None  # Jensen-Shannon distance as in WindowRow; None in versions from before it was stored
    hour_distance_sd: float = 0.0
    weekday_distance: float | None = None
    weekday_distance_sd: float = 0.0


@dataclass(frozen=True)
class History:
    """How the latest events of the reference arrived over time."""

    first: int  # UTC seconds
    last: int
    events: int
    windows: list[WindowRow]  # by number of events
    silences: list[int]  # the longest times without an event, seconds, longest first
    spans: list[SpanRow] = field(default_factory=list)  # by length; empty in versions from before they were stored
    memory_s: int | None = None
    """Seconds. A user is new in a window if they have no event in this time before it. The time is bounded by the length of the past,
    which cannot show longer absences. None in versions that did not store it: there, a user without any earlier event is new."""

    @classmethod
    def from_dict(cls, content: dict[str, object]) -> History:
        rows, spans = content["windows"], content.get("spans", [])
        assert isinstance(rows, list) and isinstance(spans, list)
        read = {"windows": [WindowRow(**row) for row in rows], "spans": [SpanRow(**row) for row in spans]}
        return cls(**{**content, **read})  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Reference:
    """The data that the newest slice is compared with: three small files, stored with a model version."""

    sample: pd.DataFrame  # at most drift.sample_rows feature rows as in `sampled`, by user and time
    item_events: pd.Series[int]  # events per item_id
    user_events: pd.Series[int]  # events per user_id
    history: History | None = None  # None in versions from before histories were stored
    quarantine: Quarantine | None = None

    def save(self, folder: Path) -> None:
        """Write reference_sample.parquet, reference_counts.parquet and reference_history.json.

        The columns of the counts are kind (item or user), id and events.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / SAMPLE_FILE, lambda path: self.sample.to_parquet(path, index=False))
        counts = [
            pd.DataFrame({"kind": kind, "id": events.index.to_numpy(np.int64), "events": events.to_numpy(np.int64)})
            for kind, events in (("item", self.item_events), ("user", self.user_events))
        ]
        _write(folder / COUNTS_FILE, lambda path: pd.concat(counts).to_parquet(path, index=False))
        if self.history is not None:
            record = {"history": asdict(self.history), "quarantine": asdict(self.quarantine) if self.quarantine else None}
            _write(folder / HISTORY_FILE, lambda path: path.write_text(json.dumps(record, indent=2), encoding="utf-8"))

    @classmethod
    def load(cls, folder: Path) -> Reference:
        """Load the reference that `save` wrote. A reference without a history comes from an older version of the product.

        Raises:
            VersionCorruptError: A file is missing, or the history cannot be read.
        """
        for name in (SAMPLE_FILE, COUNTS_FILE):
            if not (folder / name).is_file():
                raise VersionCorruptError(
                    f"The model version has no {name}, so there is nothing to compare new events with. "
                    "Run `recsys retrain`: every version that it publishes has one."
                )
        counts = pd.read_parquet(folder / COUNTS_FILE).set_index("id")
        kinds = counts["kind"].replace("movie", "item")  # as earlier versions of the product stored it
        items, users = (counts.loc[kinds == kind, "events"] for kind in ("item", "user"))
        history, quarantine = _read_history(folder / HISTORY_FILE)
        return cls(read_parquet(folder / SAMPLE_FILE), items, users, history, quarantine)


def reference_of(
    features: pd.DataFrame,
    items: pd.DataFrame,
    settings: DriftSettings,
    seed: int,
    quarantine: Quarantine | None = None,
    users: pd.DataFrame | None = None,
    repeats: bool = False,
) -> Reference:
    """Build a reference from the features: a random sample of complete users, event counts by item and user, and the history.

    Args:
        features: Rows of features, without a column of ratings if the feedback is implicit.
        items: The dataset's table of items.
        settings: Size of the sample.
        seed: Seed of the sample.
        quarantine: Row counts of the data.
        users: The dataset's table of users, if its attributes should be compared.
        repeats: Whether the dataset keeps every event of a user on an item.

    Raises:
        DataRefusedError: There are no events.
    """
    if features.empty:
        raise DataRefusedError("The dataset version has no events, so it gives no drift reference. Ingest events first.")
    ordered = in_user_order(features)
    rows = capped_by_user(ordered["user_id"].to_numpy(np.int64), settings.sample_rows, len(ordered), np.random.default_rng(seed))
    return Reference(
        sample=sampled(ordered, rows, Descriptions(items, users), repeats),
        item_events=features["item_id"].value_counts().sort_index(),
        user_events=features["user_id"].value_counts().sort_index(),
        history=history_of(ordered),
        quarantine=quarantine,
    )


def in_user_order(features: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by user and time, as `build_features` returns them. They are only copied if they are not in this order."""
    users, times = features["user_id"].to_numpy(np.int64), features["timestamp"].to_numpy(np.int64)
    same = users[1:] == users[:-1]
    if bool(((users[1:] > users[:-1]) | (same & (times[1:] >= times[:-1]))).all()):
        return features
    return features.iloc[np.lexsort((times, users))]


def session_events(features: pd.DataFrame) -> IntArray:
    """(N,) number of events in the session of each row. The rows are sorted by user and time."""
    users, sessions = features["user_id"].to_numpy(np.int64), features["session_id"].to_numpy(np.int64)
    starts = np.flatnonzero(np.append(True, (users[1:] != users[:-1]) | (sessions[1:] != sessions[:-1]))[: len(users)])
    lengths = np.diff(starts, append=len(users))
    return np.repeat(lengths, lengths).astype(np.int64)


def sampled(features: pd.DataFrame, rows: IntArray, described: Descriptions, repeats: bool) -> pd.DataFrame:
    """Return `rows` of the features (by user and time), with what describes them.

    The column session_events is counted over all rows. The column `REPEATED` is added if `repeats` are kept.
    """
    taken = features.iloc[rows].reset_index(drop=True)
    counted: dict[str, Any] = {"session_events": session_events(features)[rows]}
    if repeats:
        users, items = (features[name].to_numpy(np.int64) for name in (Columns.USER, Columns.ITEM))
        counted[REPEATED] = repeated_events(users, items)[rows]
    return taken.assign(**counted, **described.of(taken))


def capped_by_user(users: IntArray, most_rows: int, most_users: int, rng: np.random.Generator) -> IntArray:
    """Return ascending row numbers of randomly drawn users: at most `most_users` users and about `most_rows` rows.

    `users` must be grouped. Each user contributes at most ROWS_OF_A_USER consecutive rows, from a random position on, and at most a
    LEAST_USERS-th of `most_rows`, so that a small sample has enough users to judge by.
    """
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1])[: len(users)])
    lengths = np.diff(starts, append=len(users))
    kept = np.minimum(lengths, min(ROWS_OF_A_USER, max(most_rows // LEAST_USERS, 1)))
    starts = starts + np.floor(rng.random(len(starts)) * (lengths - kept + 1)).astype(np.int64)
    order = rng.permutation(len(starts))[:most_users]
    chosen = np.sort(order[: max(1, int((np.cumsum(kept[order]) <= most_rows).sum()))])
    ends = np.cumsum(kept[chosen])
    total = int(ends[-1]) if len(ends) else 0
    rows: IntArray = np.arange(total, dtype=np.int64) + np.repeat(starts[chosen] - ends + kept[chosen], kept[chosen])
    return rows


def history_of(features: pd.DataFrame) -> History:
    """Return how the latest HISTORY_EVENTS of the events (sorted by user and time) arrived over time."""
    times = features["timestamp"].to_numpy(np.int64)
    users = features["user_id"].to_numpy(np.int64)
    same_user = np.append(False, users[1:] == users[:-1])[: len(users)]
    last_seen = np.where(same_user, np.roll(times, 1), NEVER)
    if len(times) > HISTORY_EVENTS:
        latest = times >= np.partition(times, len(times) - HISTORY_EVENTS)[len(times) - HISTORY_EVENTS]
        times, users, last_seen = times[latest], users[latest], last_seen[latest]
    order = np.argsort(times, kind="stable")
    order = order[without_strays(len(order))]
    times, users, last_seen = times[order], users[order], last_seen[order]
    memory_s = int(times[-1] - times[0]) // REMEMBERED
    sizes = [SMALLEST_WINDOW << k for k in range(40) if (SMALLEST_WINDOW << k) * LEAST_WINDOWS < len(times)]
    return History(
        first=int(times[0]),
        last=int(times[-1]),
        events=len(times),
        windows=[_windows(times, users, last_seen, memory_s, size) for size in sizes],
        silences=[int(gap) for gap in np.sort(np.diff(times))[::-1][:SILENCES]],
        spans=[_span(times, seconds) for seconds in SPANS_S if LEAST_WINDOWS * seconds <= int(times[-1] - times[0])],
        memory_s=memory_s,
    )


def without_strays(events: int) -> slice:
    """Return the slice of sorted times without the outermost thousandth (at least one event) at either end.

    Otherwise a single event that is years off would create the longest silence and hide all others. If there are fewer than ten
    events, all are kept.
    """
    strays = max(1, events // 1000)
    return slice(strays, events - strays) if events >= 10 else slice(0, events)


def jensen_shannon(p: FloatArray, q: FloatArray) -> FloatArray:
    """(B,) root of the divergence, in nats, of counts (B, n), as in scipy and Evidently; infinite if a side is empty."""
    totals = [side.sum(axis=1, keepdims=True) for side in (p, q)]
    p, q = (side / np.maximum(total, 1) for side, total in zip((p, q), totals, strict=True))
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(side > 0, side * np.log(side / middle), 0.0).sum(axis=1) for side in (p, q)]
    empty = (totals[0] == 0) | (totals[1] == 0)
    return np.where(empty[:, 0], np.inf, np.sqrt(np.maximum((parts[0] + parts[1]) / 2, 0)))


def _span(times: IntArray, seconds: int) -> SpanRow:
    count = min(int(times[-1] - times[0]) // seconds, MOST_WINDOWS)
    edges = int(times[-1]) - seconds * np.arange(count, -1, -1)  # from the newest event back
    places = np.searchsorted(times, edges, side="right")
    events = np.diff(places)
    filled = events > 0
    begins, ends = places[:-1][filled], places[1:][filled]
    distances = [_spread(_calendar_distances(*values, begins, ends)) for values in _calendar(times)] if filled.sum() > 1 else []
    return SpanRow(
        seconds, count, float(events.mean()), *_spread(np.sqrt(events + 0.375)), *(value for pair in distances for value in pair)
    )


def newcomer_share(users: IntArray, last_seen: IntArray, begin: int, memory_s: int) -> float:
    """Return the share of a window's events by users who have no event in the `memory_s` seconds before its `begin`.

    Args:
        users: Users of the window's events, by time.
        last_seen: UTC seconds of the same user's event before each, NEVER if there is none.
        begin: UTC seconds.
    """
    _, first, who = np.unique(users, return_index=True, return_inverse=True)
    return float((last_seen[first] < begin - memory_s)[who].mean())


def _windows(times: IntArray, users: IntArray, last_seen: IntArray, memory_s: int, size: int) -> WindowRow:
    ends = np.arange(len(times) - 1, size - 1, -size)[:MOST_WINDOWS]  # from the newest event back
    since = times[ends - size]
    remembered = since >= times[0] + memory_s  # of these windows, enough of the time before is known
    measured = remembered if remembered.sum() >= LEAST_WINDOWS // 2 else np.ones(len(ends), dtype=bool)
    newcomers = [
        newcomer_share(users[end - size + 1 : end + 1], last_seen[end - size + 1 : end + 1], begin, memory_s)
        for end, begin in zip(ends[measured], since[measured], strict=True)
    ]
    rate, rate_sd = _spread(np.log(size / np.maximum(times[ends] - since, 1)))
    share, share_sd = _spread(np.arcsin(np.sqrt(newcomers)))
    (hour, hour_sd), (weekday, weekday_sd) = (
        _spread(np.log(np.maximum(_calendar_distances(*values, ends - size + 1, ends + 1), 1e-6))) for values in _calendar(times)
    )
    return WindowRow(
        size, len(ends), rate, rate_sd, share, share_sd, hour, hour_sd, weekday, weekday_sd, new_users_windows=len(newcomers)
    )


def _calendar(times: IntArray) -> list[tuple[IntArray, int]]:
    """Return the hours and the weekdays (0: Monday) of UTC seconds, each with the number of its kinds."""
    return [(times // 3600 % 24, 24), ((times // 86_400 + 3) % 7, 7)]  # 1970 started on a Thursday


def _calendar_distances(values: IntArray, kinds: int, begins: IntArray, ends: IntArray) -> FloatArray:
    """(W,) Jensen-Shannon distances between each window's values and all of them."""
    windows = zip(begins, ends, strict=True)
    counts = np.stack([np.bincount(values[begin:end], minlength=kinds) for begin, end in windows]).astype(np.float64)
    whole = np.bincount(values, minlength=kinds).astype(np.float64)[None]
    return jensen_shannon(counts, whole)


def _spread(values: FloatArray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1))


def _read_history(path: Path) -> tuple[History | None, Quarantine | None]:
    if not path.is_file():
        return None, None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return History.from_dict(record["history"]), Quarantine(**record["quarantine"]) if record["quarantine"] else None
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise VersionCorruptError(f"{path.name} of the model version cannot be read ({error}); train again.") from error


def _write(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(path.name + ".partial")
    write(partial)
    partial.replace(path)
