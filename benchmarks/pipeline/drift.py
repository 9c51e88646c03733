"""How often drift detection raises false alarms, and whether it finds real shifts: `python -m benchmarks.pipeline.drift`.

False alarms are counted on two kinds of slices from one unchanged distribution, with 500, 5,000 and 50,000 events:

- `stream`: time slices of a steady feed. Users of a dataset arrive at random moments with all of their events. They are drawn as
  often as needed, each time as a new user. Their events move by whole weeks, so they keep their hours and weekdays. All checks
  are judged, including volume, freshness and new users.
- `users`: slices of complete users of ML-1M who are not in the reference. These slices are not windows of time.

The streams are made from MovieLens (real ratings in real sessions) and from `benchmarks.pipeline.synthetic_events`. Several slices share
one reference. A slice alarms if its verdict is drifted; the 95 % interval is Wilson's.

Detection is measured on the same streams with a planted shift (`tasks.replay.scenarios`). A shift counts as found if the verdict on the
first slice of 5,000 events after its start is drifted; the checks that alarmed are recorded.

The outlier trial puts one value of 1e9 into the slice or the reference. Without a shift it must not alarm; with a shift, the
shift must be found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.data import load_tables
from benchmarks.report import hardware, write_result
from configs.settings import DriftSettings, SourceName, ValidationSettings
from configs.studies import ScenarioName
from infra.pages import markdown_table
from models.columns import Columns
from tasks.datasets import Quarantine
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tasks.monitoring import DriftResult, reference_of
from tasks.monitoring.drift import Beside, Reference, Window, detect_drift
from tasks.replay.scenarios import SCENARIOS
from tasks.tables import MILLISECONDS_FROM

__all__ = ["Source", "interval", "render", "steady_stream", "synthetic_source", "time_slice", "user_slice"]

IntArray = npt.NDArray[np.int64]
WEEK_S = 7 * 86_400
SIZES = (500, 5_000, 50_000)
REFERENCE_EVENTS = 100_000
PLANTED_SIZE = 5_000
LONGEST_STAY_S = 26 * WEEK_S  # limit on a user's events; with later ones the stream's warm-up would be longer than the stream
OUTLIER = 1_000_000_000
NAMES = ("ml-100k", "ml-1m", "synthetic")
SIDES = ("slice", "reference")
OUTLIER_COLUMNS = ("rating", "gap_s", "item_id", "timestamp")


SOURCES: list[Source] = []
"""The sources of this run. The forked worker processes inherit them."""


@dataclass(frozen=True, eq=False)
class Source:
    """A dataset to draw users from: events sorted by user and time, and items."""

    name: str
    events: pd.DataFrame
    items: pd.DataFrame


def main() -> None:
    """Measure, write the result after each row and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--ml-1m", type=Path, help="zip or folder of MovieLens 1M; downloaded if left out")
    parser.add_argument("--slices", type=int, default=100, help="number of slices of each size and kind")
    parser.add_argument("--references", type=int, default=10, help="number of references that the slices of one size share")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds for each planted shift and outlier")
    parser.add_argument("--workers", type=int, default=1, help="number of measuring processes")
    parser.add_argument("--synthetic-events", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/drift.json"))
    given = parser.parse_args()
    load, settings = os.getloadavg()[0], DriftSettings()
    make: dict[str, Callable[[], Source]] = {
        "ml-100k": lambda: _movielens("ml-100k", None),
        "ml-1m": lambda: _movielens("ml-1m", given.ml_1m),
        "synthetic": lambda: synthetic_source(given.synthetic_events, seed=0),
    }
    SOURCES.extend(make[name]() for name in given.sources)
    result: dict[str, Any] = {
        "sources": [source.name for source in SOURCES],
        "reference_events": REFERENCE_EVENTS,
        "references": given.references,
        "seeds": list(range(given.seeds)),
        "hardware": hardware() | {"load_1_min": round(load, 2)},
        "settings": settings.model_dump(),
        "unchanged": [],
        "planted": [],
        "outlier": [],
    }
    jobs = _jobs(given, settings)
    # The processes are forked so that they inherit SOURCES.
    with ProcessPoolExecutor(given.workers, mp_context=multiprocessing.get_context("fork")) as pool:
        for (section, _, _), row in zip(jobs, pool.map(_run, [job[1:] for job in jobs]), strict=True):
            result[section].append(row)
            print(row, flush=True)
            write_result(given.out, result)


def _jobs(given: argparse.Namespace, settings: DriftSettings) -> list[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """Return (section of the result, function, arguments) per job. The first argument is the position in SOURCES."""
    jobs: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
    for place in range(len(SOURCES)):
        for size in given.sizes:
            jobs.append(("unchanged", _unchanged, (place, "stream", size, given.slices, given.references, settings)))
        jobs += [("planted", _planted, (place, scenario, given.seeds, settings)) for scenario in SCENARIOS]
    for place in [place for place, name in enumerate(given.sources) if name == "ml-100k"]:
        jobs += [
            ("outlier", _outlier, (place, side, column, given.seeds, settings)) for side in SIDES for column in OUTLIER_COLUMNS
        ]
    for place in [place for place, name in enumerate(given.sources) if name == "ml-1m"]:
        for size in given.sizes:
            jobs.append(("unchanged", _unchanged, (place, "users", size, given.slices, given.references, settings)))
    return jobs


def _run(job: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    measure, arguments = job
    return measure(SOURCES[arguments[0]], *arguments[1:])


def synthetic_source(interactions: int, seed: int) -> Source:
    """Make a source from `benchmarks.pipeline.synthetic_events`, with a random genre for each item."""
    from benchmarks.pipeline.synthetic_events import events, scaled

    users, items = scaled(interactions)
    table = events(users, items, interactions, seed)
    films = np.unique(table.item_id)
    genres = np.array(
        ["Drama", "Comedy", "Action|Thriller", "Drama|Romance", "Comedy|Romance", "Horror", "Documentary", "Sci-Fi"]
    )
    frame = pd.DataFrame(
        {
            "user_id": table.user_id,
            "item_id": table.item_id,
            "rating": table.rating.astype(np.float64),
            "timestamp": table.timestamp,
        }
    )
    described = pd.DataFrame({"item_id": films, "title": "", "year": pd.array([pd.NA] * len(films), dtype="Int64")})
    described["genres"] = np.random.default_rng(seed).choice(genres, len(films))
    return Source(f"synthetic, {interactions:,} events", frame, described)


def steady_stream(source: Source, events: int, seed: int) -> pd.DataFrame:
    """Make at least `events` events of a steady feed: users of the source, drawn with replacement, arrive at random.

    Each draw is a new user with the events of the first half year, moved by whole weeks. The rate is that of the source. The
    start of the stream is cut off, because users who would have arrived earlier are missing there.
    """
    rng = np.random.default_rng(seed)
    frame = source.events
    users = frame["user_id"].to_numpy(np.int64)
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    times = frame["timestamp"].to_numpy(np.int64)
    began = np.repeat(times[starts], np.diff(starts, append=len(users)))
    kept = times - began <= LONGEST_STAY_S
    frame, times, users = frame[kept], times[kept], users[kept]
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    lengths = np.diff(starts, append=len(users))
    weeks = max(8, round(int(times.max() - times.min()) / WEEK_S * (events / len(times))))
    lead = LONGEST_STAY_S // WEEK_S
    count = int(np.ceil(1.1 * events / lengths.mean() * (weeks + lead) / weeks)) + 10
    chosen = rng.integers(0, len(starts), count)
    arrival = rng.integers(0, weeks + lead, count)
    moved = arrival * WEEK_S - (times[starts[chosen]] // WEEK_S) * WEEK_S
    length = lengths[chosen]
    index = np.arange(int(length.sum())) + np.repeat(starts[chosen] - np.cumsum(length) + length, length)
    made = frame.iloc[index].reset_index(drop=True)
    made["timestamp"] = times[index] + np.repeat(moved, length)
    made["user_id"] = np.repeat(np.arange(1, count + 1), length)
    made = made.loc[(made["timestamp"] >= lead * WEEK_S) & (made["timestamp"] < (weeks + lead) * WEEK_S)]
    made["timestamp"] += 800_000_000 // WEEK_S * WEEK_S
    ordered: pd.DataFrame = made.sort_values(["user_id", "timestamp", "item_id"], kind="stable").reset_index(drop=True)
    return ordered


def time_slice(features: pd.DataFrame, begins: int, size: int) -> tuple[pd.DataFrame, Window]:
    """Return the first `size` events from `begins` (UTC seconds) on, and their time window."""
    times = features["timestamp"].to_numpy(np.int64)
    later = np.sort(times[times >= begins])
    end = int(later[min(size, len(later)) - 1])
    before = features[times < begins]
    window = Window(int(before["timestamp"].max()), None, before["user_id"].unique().astype(np.int64))
    return features[(times >= begins) & (times <= end)], window


def user_slice(features: pd.DataFrame, users: IntArray, size: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw complete users from `users` until there are `size` events."""
    order = rng.permutation(users)
    sizes = features["user_id"].value_counts().reindex(order).to_numpy(np.int64)
    taken = order[: int(np.searchsorted(np.cumsum(sizes), size)) + 1]
    return features[features["user_id"].isin(taken)]


def interval(found: int, of: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    z, share = 1.959963984540054, found / of
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * np.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return (float(middle - half) if found else 0.0), (float(middle + half) if found < of else 1.0)


def render(result: dict[str, Any]) -> str:
    """Return Markdown: alarms on unchanged slices, then planted shifts, then outliers."""
    rows = []
    for name in result["sources"]:
        for kind in ("stream", "users"):
            found = {row["events"]: row for row in result["unchanged"] if (row["source"], row["kind"]) == (name, kind)}
            what = "time slices of a steady feed" if kind == "stream" else "slices of other users"
            rows += [[f"{what}, {size:,} events", name, _alarms(row), "at most 5 %"] for size, row in found.items()]
    for scenario in dict.fromkeys(row["scenario"] for row in result["planted"]):
        for row in [row for row in result["planted"] if row["scenario"] == scenario]:
            named = sorted(row["checks"], key=lambda check: -row["checks"][check])[:3]
            by = f" by {', '.join(named)}" if named else ""
            rows.append([f"planted: {scenario}", row["source"], f"found in {row['found']} of {row['seeds']}{by}", "all"])
    for side in dict.fromkeys(row["side"] for row in result["outlier"]):
        found_rows = [row for row in result["outlier"] if row["side"] == side]
        slices, columns = (
            sum(row["slices"] for row in found_rows),
            ", ".join(Columns.FORMER.get(row["column"], row["column"]) for row in found_rows),
        )
        alarms, found_all = sum(row["alarms"] for row in found_rows), sum(row["found"] for row in found_rows)
        said = f"alarms in {alarms} of {slices}; ratings doubled beside it found in {found_all} of {slices}"
        rows.append([f"one value of 1e9 in the {side} ({columns})", found_rows[0]["source"], said, "none; all"])
    head = ["slices", "events of", "alarms (95 % interval)", "must be"]
    return markdown_table(head, rows)


def _alarms(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['alarms']} of {row['slices']} ({low:.1%} to {high:.1%})"


def _movielens(source: SourceName, path: Path | None) -> Source:
    tables = load_tables(source, path)
    events = tables.interactions[["user_id", "item_id", "rating", "timestamp"]]
    events = events.astype({"user_id": np.int64, "item_id": np.int64, "rating": np.float64, "timestamp": np.int64})
    assert tables.items is not None
    items = tables.items.assign(item_id=tables.items["item_id"].astype(np.int64))
    rebuilt = path is not None and "rebuilt" in path.name
    name = {"ml-100k": "ML-100K", "ml-1m": "ML-1M"}[source] + (" (rebuilt)" if rebuilt else "")
    return Source(name, events.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True), items)


def _stream_reference(
    source: Source, size: int, slices: int, settings: DriftSettings, seed: int
) -> tuple[pd.DataFrame, int, Reference]:
    """Return the features of a steady stream, the first second of its slices, and the reference made of the events before."""
    stream = steady_stream(source, REFERENCE_EVENTS + int(1.2 * size * slices), seed)
    ordered = np.sort(stream["timestamp"].to_numpy(np.int64))
    begins = int(ordered[REFERENCE_EVENTS])
    features = build_features(stream)
    reference = reference_of(
        features[features["timestamp"] < begins],
        source.items,
        settings,
        seed,
        Quarantine(REFERENCE_EVENTS, REFERENCE_EVENTS // 1000),
    )
    return features, begins, reference


def _slices(
    source: Source, kind: str, size: int, slices: int, settings: DriftSettings, seed: int
) -> Iterator[tuple[Reference, pd.DataFrame, Window | None]]:
    rng = np.random.default_rng([seed, 7])
    if kind == "stream":
        features, begins, reference = _stream_reference(source, size, slices, settings, seed)
        for _ in range(slices):
            current, window = time_slice(features, begins, size)
            begins = int(current["timestamp"].max()) + 1
            yield reference, current, window
        return
    features = build_features(source.events)
    users = rng.permutation(np.unique(source.events["user_id"]))
    sizes = features["user_id"].value_counts().reindex(users).to_numpy(np.int64)
    half = int(np.searchsorted(np.cumsum(sizes), max(len(features) - max(size, len(features) // 2), 1)))
    known = features["user_id"].isin(users[:half])
    reference = reference_of(features[known], source.items, settings, seed)
    for _ in range(slices):
        yield reference, user_slice(features[~known], users[half:], size, rng), None


def _unchanged(source: Source, kind: str, size: int, slices: int, references: int, settings: DriftSettings) -> dict[str, Any]:
    began, verdicts, named = time.perf_counter(), Counter[str](), Counter[str]()
    judged = 0
    for number in range(references):
        count = slices // references + (number < slices % references)
        for reference, current, window in _slices(source, kind, size, count, settings, number):
            quarantine = Quarantine(len(current), len(current) // 1000) if window is not None else None
            found = detect_drift(
                reference, current, source.items, settings, window=window, quarantine=quarantine, beside=Beside(seed=number)
            )
            verdicts[found.result.verdict] += 1
            named.update(found.result.drifted)
            judged = max(judged, sum(check.verdict != "not judged" for check in found.result.checks))
    return {
        "source": source.name,
        "kind": kind,
        "events": size,
        "slices": verdicts.total(),
        "judged_checks": judged,
        "alarms": verdicts["drifted"],
        "interval": interval(verdicts["drifted"], verdicts.total()),
        "too_small": verdicts["too small to judge"],
        "checks": dict(named),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _planted(source: Source, scenario: ScenarioName, seeds: int, settings: DriftSettings) -> dict[str, Any]:
    found, named = 0, Counter[str]()
    for seed in range(seeds):
        result = planted(source, scenario, settings, seed)
        found += result.verdict == "drifted"
        named.update(result.drifted)
    return {"source": source.name, "scenario": scenario, "seeds": seeds, "found": found, "checks": dict(named)}


def planted(source: Source, scenario: ScenarioName, settings: DriftSettings, seed: int) -> DriftResult:
    """Judge the first PLANTED_SIZE events that arrive after the shift starts. They pass through validation, as in every run."""
    # The stream is long enough to leave that many events after a month-long outage, or if only one user in ten remains.
    features, begins, reference = _stream_reference(source, PLANTED_SIZE, 16, settings, 1000 + seed)
    columns = ["user_id", "item_id", "rating", "timestamp"]
    events, items = SCENARIOS[scenario](features[columns], source.items, since=begins, seed=seed)
    times = events["timestamp"].to_numpy(np.int64)
    order = np.argsort(np.where(times > MILLISECONDS_FROM, times // 1000, times), kind="stable")
    arrived = events.iloc[order].reset_index(drop=True)
    new = int((features["timestamp"] < begins).sum())
    if len(arrived) < new + PLANTED_SIZE:
        raise ValueError(f"{scenario} leaves {len(arrived) - new} events of {source.name}, fewer than a slice of {PLANTED_SIZE}")
    raw = RawTables(arrived.iloc[: new + PLANTED_SIZE], items, None, ())
    now = int(features["timestamp"].max())
    validated = validate(raw, ValidationSettings(max_quarantined_share=1.0, earliest=0, min_rows=1), now)
    rows = build_features(validated.interactions, validated.superseded)
    # The slice's rows that validation quarantined, or that replace an earlier rating by the same user.
    current = rows[rows["timestamp"] >= begins]
    quarantine = Quarantine(PLANTED_SIZE, PLANTED_SIZE - len(current))
    before = rows[rows["timestamp"] < begins]
    window = Window(int(before["timestamp"].max()), None, before["user_id"].unique().astype(np.int64))
    return detect_drift(
        reference, current, items, settings, window=window, quarantine=quarantine, beside=Beside(seed=seed)
    ).result


def _outlier(source: Source, side: str, column: str, seeds: int, settings: DriftSettings) -> dict[str, Any]:
    alarms = found = 0
    for seed in range(seeds):
        features, begins, reference = _stream_reference(source, PLANTED_SIZE, 4, settings, 2000 + seed)
        current, window = time_slice(features, begins, PLANTED_SIZE)
        shifted = current.assign(rating=current["rating"] * 2)
        if side == "reference":
            before = features[features["timestamp"] < begins]
            reference = reference_of(with_outlier(before, column), source.items, settings, seed)
        else:
            current, shifted = with_outlier(current, column), with_outlier(shifted, column)
        alarms += detect_drift(reference, current, source.items, settings, window=window).result.verdict == "drifted"
        found += "rating" in detect_drift(reference, shifted, source.items, settings, window=window).result.drifted
    return {"source": source.name, "side": side, "column": column, "slices": seeds, "alarms": alarms, "found": found}


def with_outlier(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a copy of the frame with one value set to 1e9, or with one timestamp moved by 1e9 seconds."""
    spoilt = frame.copy()
    label = frame.index[len(frame) // 2]
    spoilt.loc[label, column] = OUTLIER if column != "timestamp" else int(frame["timestamp"].loc[label]) + OUTLIER
    return spoilt


if __name__ == "__main__":
    main()
