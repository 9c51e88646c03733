"""Has the newest slice of events moved away from what the champion was trained on?

Evidently measures and draws; the thresholds of our settings decide. What Evidently does not guard against (empty or
constant columns, tiny slices, missing columns) is refused or reported here first. Two random parts of one distribution
are some distance apart, more so the smaller they are, so a column counts as drifted only beyond what chance alone reaches.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial.distance import jensenshannon

from configs.errors import DataRefusedError, VersionCorruptError
from configs.settings import DriftSettings

__all__ = ["ColumnDrift", "DriftReport", "DriftResult", "Reference", "detect_drift", "newest_slice", "reference_of"]

SAMPLE_FILE = "reference_sample.parquet"
COUNTS_FILE = "reference_counts.parquet"
NUMERICAL = ("rating", "log_gap", "log_popularity")
CATEGORICAL = ("genre", "hour", "weekday")
RESAMPLES = 200
NEEDED = ("user_id", "movie_id", "rating", "timestamp", "rating_weekday", "rating_hour", "gap_s")


@dataclass(frozen=True, eq=False)
class Reference:
    """What the newest slice is compared with; two small files that are stored with a model version."""

    sample: pd.DataFrame  # at most drift.sample_rows feature rows, with the column genres
    item_events: pd.Series[int]  # events of each movie_id
    user_events: pd.Series[int]  # events of each user_id

    def save(self, folder: Path) -> None:
        """Write reference_sample.parquet and reference_counts.parquet (columns kind: movie or user, id, events)."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(self.sample, folder / SAMPLE_FILE)
        counts = [
            pd.DataFrame({"kind": kind, "id": events.index.to_numpy(np.int64), "events": events.to_numpy(np.int64)})
            for kind, events in (("movie", self.item_events), ("user", self.user_events))
        ]
        _write(pd.concat(counts), folder / COUNTS_FILE)

    @classmethod
    def load(cls, folder: Path) -> Reference:
        """The reference that `save` wrote. Raises VersionCorruptError when one of its files is missing."""
        for name in (SAMPLE_FILE, COUNTS_FILE):
            if not (folder / name).is_file():
                raise VersionCorruptError(
                    f"The model version has no {name}, so there is nothing to compare new events with. "
                    "Run `recsys retrain`: every version that it publishes has one."
                )
        counts = pd.read_parquet(folder / COUNTS_FILE).set_index("id")
        parts = {kind: counts.loc[counts["kind"] == kind, "events"] for kind in ("movie", "user")}
        return cls(pd.read_parquet(folder / SAMPLE_FILE), parts["movie"], parts["user"])


@dataclass(frozen=True)
class ColumnDrift:
    """One column's distance between reference and newest slice, in units of its method."""

    column: str
    method: str
    distance: float
    threshold: float  # drift.max_column_distance, or what chance reaches at these sizes where that is more
    drifted: bool


@dataclass(frozen=True)
class DriftResult:
    """The verdict and its figures, JSON-able."""

    verdict: Literal["drifted", "stable", "too small to judge"]
    reasons: list[str]
    rows: int  # of the newest slice
    reference_rows: int
    columns: list[ColumnDrift]
    drifted_share: float
    unseen_item_share: float  # of the slice's events
    expected_unseen_item_share: float  # had nothing changed: the reference's share of items with one event (Good-Turing)
    unseen_user_share: float
    reference_gini: float  # of events over the films that occur in equally many rows of either side
    current_gini: float
    reference_top_share: float  # of those events on the most popular 1 % of those films
    current_top_share: float
    reference_median_gap_s: float
    current_median_gap_s: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class DriftReport:
    """The verdict with Evidently's page; the page is None for a slice that is too small to judge."""

    result: DriftResult
    html: bytes | None


def newest_slice(features: pd.DataFrame, settings: DriftSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Older and newest part of the features, cut in time; events of one second stay together.

    Raises DataRefusedError when there are no events.
    """
    if features.empty:
        raise DataRefusedError("The dataset version has no events, so it has no newest slice. Ingest events first.")
    cut = np.quantile(features["timestamp"].to_numpy(np.int64), 1 - settings.slice_share, method="higher")
    newest = features["timestamp"] >= cut
    return features[~newest], features[newest]


def reference_of(features: pd.DataFrame, items: pd.DataFrame, settings: DriftSettings, seed: int) -> Reference:
    """A fixed-size random sample of the features, and how often each movie and user occurs in all of them."""
    sample = features.sample(min(len(features), settings.sample_rows), random_state=seed)
    genres = items.set_index("movie_id")["genres"]
    return Reference(
        sample=sample.assign(genres=sample["movie_id"].map(genres).astype("string").fillna("")).reset_index(drop=True),
        item_events=features["movie_id"].value_counts().sort_index(),
        user_events=features["user_id"].value_counts().sort_index(),
    )


def detect_drift(
    reference: Reference, current: pd.DataFrame, items: pd.DataFrame, settings: DriftSettings, seed: int = 0
) -> DriftReport:
    """Compare `current` (feature rows of the newest slice) with the reference.

    Raises DataRefusedError on a column that is missing, empty or not finite.
    """
    _refuse_unusable(reference.sample, "reference")
    _refuse_unusable(current, "newest slice")
    compared = reference_of(current, items, settings, seed).sample
    unseen_items = _unseen_share(current["movie_id"], reference.item_events)
    expected = float((reference.item_events == 1).sum() / max(reference.item_events.sum(), 1))
    columns: list[ColumnDrift] = []
    html = None
    reasons: list[str] = []
    verdict: Literal["drifted", "stable", "too small to judge"] = "too small to judge"
    if min(len(current), len(reference.sample)) < settings.min_rows:
        reasons = [
            f"The slice has {len(current)} rows and the reference {len(reference.sample)}; drift.min_rows is {settings.min_rows}."
        ]
    else:
        columns, html = _measure(
            _comparable(reference.sample, reference.item_events - 1), _comparable(compared, reference.item_events), settings
        )
        reasons, drifted = _judge(columns, unseen_items, expected, settings)
        verdict = "drifted" if drifted else "stable"
    rows = min(len(reference.sample), len(compared))  # concentration depends on the number of events: compare equally many
    before, now = (_concentration(side["movie_id"].head(rows)) for side in (reference.sample, compared))
    result = DriftResult(
        verdict=verdict,
        reasons=reasons,
        rows=len(current),
        reference_rows=len(reference.sample),
        columns=columns,
        drifted_share=_drifted_share(columns),
        unseen_item_share=unseen_items,
        expected_unseen_item_share=expected,
        unseen_user_share=_unseen_share(current["user_id"], reference.user_events),
        reference_gini=before[0],
        current_gini=now[0],
        reference_top_share=before[1],
        current_top_share=now[1],
        reference_median_gap_s=_median_gap(reference.sample),
        current_median_gap_s=_median_gap(current),
    )
    return DriftReport(result, html)


def _judge(columns: list[ColumnDrift], unseen_items: float, expected: float, settings: DriftSettings) -> tuple[list[str], bool]:
    """What has moved, in sentences, and whether that makes the slice drifted."""
    reasons = [
        f"{column.column} has moved by {column.distance:.3f} ({column.method}), above {column.threshold:.3g}."
        for column in columns
        if column.drifted
    ]
    drifted = False
    far = [column.column for column in columns if column.drifted and column.distance > settings.max_single_distance]
    if far:
        drifted = True
        reasons.append(f"{', '.join(far)} moved further than any column may ({settings.max_single_distance:g}).")
    if (share := _drifted_share(columns)) > settings.max_drifted_share:
        drifted = True
        reasons.append(f"{share:.0%} of the columns have drifted, above {settings.max_drifted_share:.0%}.")
    if unseen_items - expected > settings.max_unseen_item_share:
        drifted = True
        reasons.append(
            f"{unseen_items:.1%} of the events are on items that the reference never saw, "
            f"above {settings.max_unseen_item_share:.0%} more than the {expected:.1%} to be expected."
        )
    return reasons, drifted


def _refuse_unusable(frame: pd.DataFrame, name: str) -> None:
    missing = [column for column in NEEDED if column not in frame]
    if missing:
        raise DataRefusedError(
            f"The {name} lacks the column {missing[0]}, so drift cannot be measured. Build its features again."
        )
    for column in NEEDED:
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataRefusedError(
                f"The column {column} of the {name} has {len(bad)} of {len(frame)} values that are no finite number, the first "
                f"in row {bad[0]} ({frame[column].iloc[bad[0]]!r}). Build its features again from validated interactions."
            )


def _comparable(frame: pd.DataFrame, item_events: pd.Series[int]) -> pd.DataFrame:
    """Columns whose distance means something: heavy tails as logarithms, ids as popularity, no calendar dates.

    A reference row's own event is left out of its film's popularity: counted, every film would look more popular in the
    reference than in events that it has not seen.
    """
    gaps = frame["gap_s"].to_numpy(np.float64)
    return pd.DataFrame(
        {
            "rating": frame["rating"].to_numpy(np.float64),
            "log_gap": np.where(gaps < 0, np.nan, np.log1p(np.maximum(gaps, 0))),
            "log_popularity": np.log1p(frame["movie_id"].map(item_events).fillna(0).to_numpy(np.float64)),
            "genre": _one_genre(frame["genres"]),
            "hour": frame["rating_hour"].astype(str).to_numpy(object),
            "weekday": frame["rating_weekday"].astype(str).to_numpy(object),
        }
    )


def _one_genre(genres: pd.Series[str]) -> npt.NDArray[np.object_]:
    """One genre of each row's film at random: MovieLens lists them by alphabet, so the first would hide the later letters."""
    draws = np.random.default_rng(0).random(len(genres))
    parts = genres.str.split("|")
    return np.array([names[int(draw * len(names))] or "none" for names, draw in zip(parts, draws, strict=True)], dtype=object)


def _measure(reference: pd.DataFrame, current: pd.DataFrame, settings: DriftSettings) -> tuple[list[ColumnDrift], bytes]:
    os.environ["DO_NOT_TRACK"] = "1"  # Evidently would send usage to a server
    from evidently import DataDefinition, Dataset, Report  # 7 s: only when there is something to measure
    from evidently.presets import DataDriftPreset

    # A column without values on either side has no distance; all firsts of their users leave log_gap empty.
    numerical = [name for name in NUMERICAL if reference[name].notna().any() and current[name].notna().any()]
    columns = [*numerical, *CATEGORICAL]
    rng = np.random.default_rng(0)
    chance = {
        name: (_chance_wasserstein if name in numerical else _chance_jensen_shannon)(reference[name], current[name], rng)
        for name in columns
    }
    thresholds = {name: max(settings.max_column_distance, chance[name]) for name in columns}
    definition = DataDefinition(numerical_columns=numerical, categorical_columns=list(CATEGORICAL))
    preset = DataDriftPreset(
        columns=columns,
        num_method="wasserstein",
        cat_method="jensenshannon",
        per_column_threshold=thresholds,
        drift_share=settings.max_drifted_share,
    )
    snapshot = Report([preset]).run(
        Dataset.from_pandas(current[columns], data_definition=definition),
        Dataset.from_pandas(reference[columns], data_definition=definition),
    )
    found: list[ColumnDrift] = []
    for metric in snapshot.dict()["metrics"]:
        column = metric["config"].get("column")
        if column in thresholds:
            distance = float(np.nan_to_num(metric["value"]))  # the root of equal shares' divergence may round to NaN
            method = str(metric["config"].get("method"))
            found.append(ColumnDrift(column, method, distance, thresholds[column], distance > thresholds[column]))
    missed = set(columns) - {drift.column for drift in found}
    if missed:
        raise DataRefusedError(
            f"Evidently returned no distance for {', '.join(sorted(missed))}; another version of it is installed."
        )
    return found, snapshot.get_html_str(as_iframe=False).encode()


def _chance_wasserstein(reference: pd.Series[float], current: pd.Series[float], rng: np.random.Generator) -> float:
    """Greatest of RESAMPLES Wasserstein distances between random parts of both sides together, normed as Evidently does."""
    before, now = reference.dropna().to_numpy(), current.dropna().to_numpy()
    pooled = np.sort(np.concatenate([before, now]))
    widths = np.diff(pooled)
    of_reference = np.arange(len(pooled)) < len(before)
    greatest = 0.0
    for _ in range(RESAMPLES):
        below = np.cumsum(rng.permutation(of_reference))[:-1]
        gaps = np.abs(below / len(before) - (np.arange(1, len(pooled)) - below) / len(now))
        greatest = max(greatest, float(gaps @ widths))
    return greatest / max(float(before.std()), 0.001)


def _chance_jensen_shannon(reference: pd.Series[str], current: pd.Series[str], rng: np.random.Generator) -> float:
    """Greatest of RESAMPLES Jensen-Shannon distances between random parts of both sides together."""
    pooled = pd.concat([reference, current]).value_counts().to_numpy()
    before = rng.multivariate_hypergeometric(pooled, len(reference), size=RESAMPLES)
    distances = jensenshannon(before / len(reference), (pooled - before) / len(current), axis=1)
    return float(np.nan_to_num(distances).max())


def _drifted_share(columns: list[ColumnDrift]) -> float:
    return sum(column.drifted for column in columns) / len(columns) if columns else 0.0


def _unseen_share(ids: pd.Series[int], known: pd.Series[int]) -> float:
    return float((~ids.isin(known.index)).mean()) if len(ids) else 0.0


def _concentration(movie_ids: pd.Series[int]) -> tuple[float, float]:
    """Gini index of events over films, and the share of events on the most popular 1 % of films (at least one)."""
    ordered = np.sort(movie_ids.value_counts().to_numpy(np.float64))
    n = len(ordered)
    if n == 0:
        return 0.0, 0.0
    gini = ((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum())
    return float(gini), float(ordered[-max(1, n // 100) :].sum() / ordered.sum())


def _median_gap(frame: pd.DataFrame) -> float:
    gaps = frame.loc[frame["gap_s"] >= 0, "gap_s"]
    return float(gaps.median()) if len(gaps) else 0.0


def _write(frame: pd.DataFrame, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    frame.to_parquet(partial, index=False)
    partial.replace(path)
