"""Has the newest slice of events moved away from what the champion was trained on?

Evidently measures and draws; the thresholds of our settings decide. What Evidently does not guard against (empty or
constant columns, tiny slices, missing columns) is refused or reported here first.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from configs.errors import DataRefusedError
from configs.settings import DriftSettings

__all__ = ["ColumnDrift", "DriftReport", "DriftResult", "Reference", "detect_drift", "newest_slice", "reference_of"]

SAMPLE_FILE = "reference_sample.parquet"
COUNTS_FILE = "reference_counts.parquet"
NUMERICAL = ("rating", "log_gap", "log_popularity")
CATEGORICAL = ("genre", "hour", "weekday")
NEEDED = ("user_id", "movie_id", "rating", "timestamp", "rating_weekday", "rating_hour", "gap_s")


@dataclass(frozen=True, eq=False)
class Reference:
    """What the newest slice is compared with; two small files that are stored with a model version."""

    sample: pd.DataFrame  # at most drift.sample_rows feature rows, with the column genres
    item_events: pd.Series[int]  # events of each movie_id
    user_events: pd.Series[int]  # events of each user_id

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.sample.to_parquet(folder / SAMPLE_FILE, index=False)
        counts = [
            pd.DataFrame({"kind": kind, "id": events.index.to_numpy(np.int64), "events": events.to_numpy(np.int64)})
            for kind, events in (("movie", self.item_events), ("user", self.user_events))
        ]
        pd.concat(counts).to_parquet(folder / COUNTS_FILE, index=False)

    @classmethod
    def load(cls, folder: Path) -> Reference:
        counts = pd.read_parquet(folder / COUNTS_FILE).set_index("id")
        parts = {kind: counts.loc[counts["kind"] == kind, "events"] for kind in ("movie", "user")}
        return cls(pd.read_parquet(folder / SAMPLE_FILE), parts["movie"], parts["user"])


@dataclass(frozen=True)
class ColumnDrift:
    """One column's distance between reference and newest slice."""

    column: str
    method: str
    distance: float
    threshold: float
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
    unseen_user_share: float
    reference_gini: float  # of events over items
    current_gini: float
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
    """Older and newest part of the features, cut in time; events of one second stay together."""
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
    unseen_items = float((~current["movie_id"].isin(reference.item_events.index)).mean()) if len(current) else 0.0
    unseen_users = float((~current["user_id"].isin(reference.user_events.index)).mean()) if len(current) else 0.0
    small = min(len(current), len(reference.sample)) < settings.min_rows
    columns: list[ColumnDrift] = []
    html = None
    if not small:
        compared = reference_of(current, items, settings, seed).sample
        columns, html = _measure(
            _comparable(reference.sample, reference.item_events - 1), _comparable(compared, reference.item_events), settings
        )
    drifted_share = float(np.mean([column.drifted for column in columns])) if columns else 0.0
    reasons = [
        f"{column.column} has moved by {column.distance:.3f} ({column.method}), above {column.threshold:g}."
        for column in columns
        if column.drifted
    ]
    verdict: Literal["drifted", "stable", "too small to judge"] = "stable"
    if small:
        verdict = "too small to judge"
        reasons = [
            f"The slice has {len(current)} rows and the reference {len(reference.sample)}; drift.min_rows is {settings.min_rows}."
        ]
    elif unseen_items > settings.max_unseen_item_share:
        verdict = "drifted"
        reasons.append(
            f"{unseen_items:.1%} of the events are on items that the reference never saw, above {settings.max_unseen_item_share:.0%}."
        )
    if not small and drifted_share > settings.max_drifted_share:
        verdict = "drifted"
    result = DriftResult(
        verdict=verdict,
        reasons=reasons,
        rows=len(current),
        reference_rows=len(reference.sample),
        columns=columns,
        drifted_share=drifted_share,
        unseen_item_share=unseen_items,
        unseen_user_share=unseen_users,
        reference_gini=_gini(reference.item_events),
        current_gini=_gini(current["movie_id"].value_counts()),
        reference_median_gap_s=_median_gap(reference.sample),
        current_median_gap_s=_median_gap(current),
    )
    return DriftReport(result, html)


def _refuse_unusable(frame: pd.DataFrame, name: str) -> None:
    missing = [column for column in NEEDED if column not in frame]
    if missing:
        raise DataRefusedError(
            f"The {name} lacks the column {missing[0]}, so drift cannot be measured. Build its features again."
        )
    for column in NEEDED:
        bad = int((~np.isfinite(frame[column].to_numpy(np.float64, na_value=np.nan))).sum())
        if bad:
            raise DataRefusedError(
                f"The column {column} of the {name} has {bad} of {len(frame)} values that are no finite number."
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
            "genre": frame["genres"].str.split("|").str[0].replace("", "none").to_numpy(object),
            "hour": frame["rating_hour"].astype(str).to_numpy(object),
            "weekday": frame["rating_weekday"].astype(str).to_numpy(object),
        }
    )


def _measure(reference: pd.DataFrame, current: pd.DataFrame, settings: DriftSettings) -> tuple[list[ColumnDrift], bytes]:
    os.environ["DO_NOT_TRACK"] = "1"  # Evidently would send usage to a server
    from evidently import DataDefinition, Dataset, Report  # 7 s: only when there is something to measure
    from evidently.presets import DataDriftPreset

    # A column without two values on either side has no distance; all firsts of their users leave log_gap empty.
    numerical = [name for name in NUMERICAL if reference[name].notna().any() and current[name].notna().any()]
    definition = DataDefinition(numerical_columns=numerical, categorical_columns=list(CATEGORICAL))
    threshold = settings.max_column_distance
    columns = [*numerical, *CATEGORICAL]
    preset = DataDriftPreset(
        columns=columns,
        num_method="wasserstein",
        num_threshold=threshold,
        cat_method="jensenshannon",
        cat_threshold=threshold,
        drift_share=settings.max_drifted_share,
    )
    snapshot = Report([preset]).run(
        Dataset.from_pandas(current[columns], data_definition=definition),
        Dataset.from_pandas(reference[columns], data_definition=definition),
    )
    found: list[ColumnDrift] = []
    for metric in snapshot.dict()["metrics"]:
        column = metric["config"].get("column")
        if column in columns:
            distance = float(metric["value"])
            if not np.isfinite(distance):  # no spread in the reference: any other value is a drift
                distance = 0.0 if set(current[column].dropna()) <= set(reference[column].dropna()) else 1.0
            method = str(metric["config"].get("method"))
            found.append(ColumnDrift(column, method, distance, threshold, distance > threshold))
    missed = set(columns) - {drift.column for drift in found}
    if missed:
        raise DataRefusedError(
            f"Evidently returned no distance for {', '.join(sorted(missed))}; another version of it is installed."
        )
    return found, snapshot.get_html_str(as_iframe=False).encode()


def _gini(events: pd.Series[int]) -> float:
    ordered, n = np.sort(events.to_numpy(np.float64)), len(events)
    if n == 0:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum()))


def _median_gap(frame: pd.DataFrame) -> float:
    gaps = frame.loc[frame["gap_s"] >= 0, "gap_s"]
    return float(gaps.median()) if len(gaps) else 0.0
