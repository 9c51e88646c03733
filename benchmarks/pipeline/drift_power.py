"""How small a shift each drift check finds: `python -m benchmarks.pipeline.drift_power`.

A steady feed is made: users come back in sessions, week after week. The reference is its first twelve weeks, and the slice is the week
after. Into the slice, shifts of growing size are planted, one kind for each check. Printed are, for each check, the sizes that were
planted, the share of seeds in which the check alarmed, and the smallest size that it found in at least 80 % of them. The size 0 plants
nothing, so its share is that of false alarms.

The largest size of each kind is planted once more under settings that are accepted and that once switched every alarm off. Live
quality needs a champion and is measured by `recsys study replay`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.report import hardware, write_result
from configs.settings import DriftSettings
from infra.pages import markdown_table
from tasks.datasets import Quarantine
from tasks.ingest import build_features
from tasks.monitoring import AS_ARRIVED, LONG_TERM, reference_of
from tasks.monitoring.drift import Beside, Reference, detect_drift, newest_slice, window_of

__all__ = ["KINDS", "START", "WEEK_S", "Kind", "Slice", "measure", "render", "smallest", "steady_feed"]

WEEK_S = 7 * 86_400
START = 800_000_000 // WEEK_S * WEEK_S
WEEKS = 12  # of the reference
FOUND = 0.8
VARIANTS: dict[str, dict[str, float]] = {
    "defaults": {},
    "resamples=200": {"resamples": 200},
    "resamples=1000": {"resamples": 1000},
    "alpha=0.005": {"alpha": 0.005},
    "alpha=0.001": {"alpha": 0.001},
    "sample_rows=5000": {"sample_rows": 5000},
}
Frame = pd.DataFrame


@dataclass(frozen=True, eq=False)
class Slice:
    """The week that is judged: its events, its feature rows, and what else is known of it."""

    events: Frame  # of the feed until the end of the slice
    begin: int  # UTC seconds of the slice
    rows: Frame | None = None  # feature rows; None: those of the events
    quarantine: Quarantine = field(default_factory=lambda: Quarantine(2000, 2))
    arrived: Frame | None = None
    slow: float = 0.0  # share by which ratings have fallen since the anchor

    @property
    def new(self) -> npt.NDArray[np.bool_]:
        return (self.events["timestamp"] >= self.begin).to_numpy()


@dataclass(frozen=True)
class Kind:
    """One kind of shift: the check that should find it, the sizes, and how it is planted."""

    check: str
    what: str  # what a size means
    sizes: tuple[float, ...]
    plant: Callable[[Slice, float, np.random.Generator], Slice]


def main() -> None:
    """Measure, write the result after each kind and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="number of feeds for each size")
    parser.add_argument("--users", type=int, default=150, help="users of the feed; each makes about nine events a week")
    parser.add_argument("--workers", type=int, default=1, help="number of measuring processes")
    parser.add_argument("--checks", nargs="+", help="only checks whose name contains one of these words")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/drift_power.json"))
    given = parser.parse_args()
    kinds = [kind for kind in KINDS if not given.checks or any(word in kind.check for word in given.checks)]
    result: dict[str, Any] = {"seeds": list(range(given.seeds)), "users": given.users, "hardware": hardware(), "rows": []}
    with ProcessPoolExecutor(given.workers) as pool:
        for kind in kinds:
            result["rows"].append(measure(kind, given.seeds, given.users, pool))
            print(result["rows"][-1], flush=True)
            write_result(given.out, result)
    print(render(result))


@dataclass(frozen=True)
class Alarms:
    """What a kind's check said about the slices of one feed."""

    found: dict[float, bool]  # by planted size
    effects: dict[float, float]  # by planted size
    variants: dict[str, bool]  # about the largest size, by settings
    bound: float


def measure(kind: Kind, seeds: int, users: int, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """Plant each size into the week after the reference of each seed's feed, and count the alarms of the kind's check."""
    began, place = time.perf_counter(), KINDS.index(kind)
    alarms = list(pool.map(_alarms, [place] * seeds, range(seeds), [users] * seeds))
    sizes = (0.0, *kind.sizes)
    shares = {f"{size:g}": round(float(np.mean([each.found[size] for each in alarms])), 3) for size in sizes}
    return {
        "check": kind.check,
        "what": kind.what,
        "bound": alarms[-1].bound,
        "found": shares,
        "effect": {f"{size:g}": round(float(np.mean([each.effects[size] for each in alarms])), 3) for size in sizes},
        "smallest": smallest(shares),
        "largest_found": {name: round(float(np.mean([each.variants[name] for each in alarms])), 3) for name in VARIANTS},
        "seconds": round(time.perf_counter() - began, 1),
    }


def _alarms(place: int, seed: int, users: int) -> Alarms:
    """Judge each size of the kind at `place` of KINDS, which a process can look up where it could not be sent."""
    kind = KINDS[place]
    feed = steady_feed(users, WEEKS + 1, seed=seed)
    begin = START + WEEKS * WEEK_S
    items = described(feed)
    before = build_features(feed[feed["timestamp"] < begin])
    settings = {name: DriftSettings.model_validate(changed) for name, changed in VARIANTS.items()}
    references = {name: _reference(before, items, each) for name, each in settings.items()}
    week = Slice(feed, begin)
    defaults = references["defaults"]
    judged = {size: _judged(kind, size, week, defaults, items, DriftSettings(), seed) for size in (0.0, *kind.sizes)}
    under = {name: _judged(kind, kind.sizes[-1], week, references[name], items, each, seed) for name, each in settings.items()}
    return Alarms(
        found={size: check.verdict == "drifted" for size, check in judged.items()},
        effects={size: float(check.effect or 0) for size, check in judged.items()},
        variants={name: check.verdict == "drifted" for name, check in under.items()},
        bound=float(judged[kind.sizes[-1]].bound or 0),
    )


def smallest(shares: dict[str, float]) -> float | None:
    """Return the smallest size from which on every size is found in at least FOUND of the seeds; None if there is none."""
    least = None
    for size, share in sorted(((float(size), share) for size, share in shares.items()), reverse=True):
        if share < FOUND or size == 0:
            break
        least = size
    return least


def render(result: dict[str, Any]) -> str:
    """Return Markdown: one row for each check."""
    rows = []
    for row in result["rows"]:
        planted = ", ".join(f"{size}: {share:.0%}" for size, share in row["found"].items())
        missed = [name for name, share in row["largest_found"].items() if share < FOUND]
        least = "none of these" if row["smallest"] is None else f"{row['smallest']:g}"
        rows.append([row["check"], row["what"], planted, least, f"missed with {', '.join(missed)}" if missed else "found"])
    head = [
        "check",
        "size of the shift",
        "planted sizes: found",
        f"smallest found at {FOUND:.0%}",
        "largest, under every setting",
    ]
    return markdown_table(head, rows)


def steady_feed(users: int, weeks: int, *, every_days: float = 7, seed: int = 0) -> Frame:
    """Make a feed: each user comes about every `every_days` days in the evening, for 4 to 15 events, a minute apart or so."""
    rng = np.random.default_rng(seed)
    visits = []
    for user in range(1, users + 1):
        day = rng.uniform(0, every_days)
        while day < weeks * 7:
            visits.append((user, int(day) * 86_400 + int(rng.normal(18, 2) * 3600)))
            day += every_days * rng.uniform(0.9, 1.1)
    who, when = np.array(visits).T
    lengths = rng.integers(4, 16, len(visits))
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    step = np.arange(lengths.sum()) - first
    films = 100 + np.minimum(rng.geometric(0.03, lengths.sum()), 200)
    frame = pd.DataFrame(
        {
            "user_id": np.repeat(who, lengths),
            "item_id": films,
            "rating": rng.choice([2.0, 3.0, 4.0, 5.0], lengths.sum()),
            "timestamp": START + np.repeat(when, lengths) + step * 60 + rng.integers(0, 50, lengths.sum()),
        }
    )
    return frame.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True)


def described(feed: Frame) -> Frame:
    """Return the films of a feed with genres."""
    films = np.sort(feed["item_id"].unique())
    return pd.DataFrame({"item_id": films, "genres": np.array(["Action", "Drama", "Comedy", "Thriller"])[films % 4]})


def _reference(before: Frame, items: Frame, settings: DriftSettings) -> Reference:
    return reference_of(before, items, settings, 0, Quarantine(20_000, 20))


def _judged(kind: Kind, size: float, week: Slice, reference: Reference, items: Frame, settings: DriftSettings, seed: int) -> Any:
    """Return the kind's check on the week with a shift of this size."""
    planted = kind.plant(week, size, np.random.default_rng([seed, 1])) if size else week
    features = build_features(planted.events)
    older, newest = newest_slice(features, settings, since=week.begin)
    window = window_of(older, newest, week.begin + WEEK_S)
    rows = newest if planted.rows is None else planted.rows
    anchor = reference
    if kind.check.endswith(LONG_TERM):  # the champion's reference is four weeks old and has followed the shift
        anchor = replace(reference, sample=reference.sample.assign(rating=reference.sample["rating"] / (1 - planted.slow)))
    arrived = planted.arrived if kind.check.endswith(AS_ARRIVED) else None
    if kind.check.endswith(AS_ARRIVED) and arrived is None:
        arrived = newest
    beside = Beside(arrived, anchor if kind.check.endswith(LONG_TERM) else None, seed=seed)
    found = detect_drift(reference, rows, items, settings, window=window, quarantine=planted.quarantine, beside=beside).result
    return next(check for check in found.checks if check.name == kind.check)


def _rows(change: Callable[[Frame, float, np.random.Generator], Frame]) -> Callable[[Slice, float, np.random.Generator], Slice]:
    """Plant into the feature rows of the slice."""

    def plant(week: Slice, size: float, rng: np.random.Generator) -> Slice:
        features = build_features(week.events)
        return replace(week, rows=change(features[features["timestamp"] >= week.begin].copy(), size, rng))

    return plant


def _some(frame: Frame, share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    chosen: npt.NDArray[np.bool_] = rng.random(len(frame)) < share
    return chosen


def _moved(
    column: str, value: Callable[[Frame, np.random.Generator], Any]
) -> Callable[[Slice, float, np.random.Generator], Slice]:
    """Plant by giving a share of the rows another value."""
    return _rows(
        lambda rows, share, rng: rows.assign(**{column: np.where(_some(rows, share, rng), value(rows, rng), rows[column])})
    )


def _kept(week: Slice, keep: npt.NDArray[np.bool_]) -> Slice:
    return replace(week, events=week.events[~week.new | keep].reset_index(drop=True))


def _shorter(week: Slice, share: float, rng: np.random.Generator) -> Slice:
    """Leave out the last `share` of the events of each user and day."""
    events = week.events
    place = events.groupby([events["user_id"], events["timestamp"] // 86_400]).cumcount()
    size = events.groupby([events["user_id"], events["timestamp"] // 86_400])["item_id"].transform("size")
    return _kept(week, (place < np.maximum(size * (1 - share), 1)).to_numpy())


def _silent(week: Slice, days: float, rng: np.random.Generator) -> Slice:
    return _kept(week, (week.events["timestamp"] < week.begin + WEEK_S - days * 86_400).to_numpy())


def _renamed(week: Slice, share: float, rng: np.random.Generator) -> Slice:
    users = week.events["user_id"]
    new = week.new & users.isin(rng.permutation(users.unique())[: round(share * users.nunique())]).to_numpy()
    return replace(
        week, events=week.events.assign(user_id=np.where(new, users + 10**6, users)).sort_values(["user_id", "timestamp"])
    )


def _late_bots(week: Slice, share: float, rng: np.random.Generator) -> Slice:
    """Bots that are dated before the slice arrive together with it."""
    newest = week.events[week.new]
    users = max(round(share / (1 - share) * len(newest) / 30), 1)
    made = pd.DataFrame(
        {
            "user_id": np.repeat(10**6 + np.arange(users), 30),
            "item_id": 101 + np.tile(np.arange(30), users),
            "rating": 5.0,
            "timestamp": week.begin - 86_400 // 2 + np.tile(np.arange(30), users),
        }
    )
    return replace(week, arrived=build_features(pd.concat([newest, made]).sort_values(["user_id", "timestamp"])))


KINDS = (
    Kind(
        "rating",
        "fall of all ratings, share",
        (0.03, 0.06, 0.1, 0.2, 0.3),
        _rows(lambda f, s, r: f.assign(rating=f["rating"] * (1 - s))),
    ),
    Kind(
        "seconds between events (log)",
        "factor on gaps within sessions",
        (1.25, 1.5, 2, 4, 8),
        _rows(lambda f, s, r: f.assign(gap_s=np.where(f["gap_s"].between(0, 1800), f["gap_s"] * s, f["gap_s"]))),
    ),
    Kind(
        "popularity of films (rank)",
        "share of events moved to rare films",
        (0.05, 0.1, 0.2, 0.3, 0.5),
        _moved("item_id", lambda f, r: 260 + r.integers(0, 40, len(f))),
    ),
    Kind("events of a session (log)", "share of each session that is lost", (0.1, 0.2, 0.3, 0.5, 0.7), _shorter),
    Kind(
        "genre",
        "share of events moved to one genre",
        (0.05, 0.1, 0.2, 0.3, 0.5),
        _moved("item_id", lambda f, r: f["item_id"] // 4 * 4 + 1),
    ),
    Kind(
        "hour",
        "hours by which all events move",
        (1, 2, 3, 4, 6),
        _rows(lambda f, s, r: f.assign(rating_hour=(f["rating_hour"] + int(s)) % 24)),
    ),
    Kind("weekday", "share of events moved to Monday", (0.1, 0.2, 0.3, 0.4, 0.6), _moved("rating_weekday", lambda f, r: 0)),
    Kind(
        "unseen films",
        "share of events moved to new films",
        (0.05, 0.1, 0.15, 0.2, 0.3),
        _moved("item_id", lambda f, r: 9000 + r.integers(0, 20, len(f))),
    ),
    Kind(
        "concentration on films",
        "share of events moved to five films",
        (0.1, 0.2, 0.3, 0.5, 0.7),
        _moved("item_id", lambda f, r: 110 + r.integers(0, 5, len(f))),
    ),
    Kind("volume", "share of events that are lost", (0.3, 0.5, 0.55, 0.6, 0.8), lambda w, s, r: _kept(w, ~_some(w.events, s, r))),
    Kind("freshness", "days of silence at the end", (1, 2, 3, 4, 6), _silent),
    Kind("new users", "share of users that are new", (0.1, 0.25, 0.3, 0.4, 0.6), _renamed),
    Kind(
        "quarantine",
        "share of rows that are bad",
        (0.01, 0.02, 0.03, 0.05, 0.1),
        lambda w, s, r: replace(w, quarantine=Quarantine(2000, int(2000 * s))),
    ),
    Kind(f"rating{AS_ARRIVED}", "share of bots, dated before the slice, in what arrives", (0.05, 0.1, 0.2, 0.3, 0.5), _late_bots),
    Kind(
        f"rating{LONG_TERM}",
        "fall of all ratings since the anchor, share",
        (0.03, 0.06, 0.1, 0.2, 0.3),
        lambda w, s, r: replace(w, slow=s),
    ),
)


if __name__ == "__main__":
    main()
