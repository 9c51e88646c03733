"""Sets bad rows aside with their reasons, refuses a source that is mostly bad, and proves the rest by pandera models.

Accounting closes: rows in = accepted + quarantined, for each table.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from configs.errors import DataRefusedError
from configs.settings import ValidationSettings
from tasks.movielens import INTERACTION_COLUMNS, RawTables

__all__ = ["InteractionModel", "ItemModel", "TableReport", "UserModel", "Validated", "ValidationReport", "validate"]

MILLISECONDS_FROM = 100_000_000_000  # as seconds, the year 5138
Mask = npt.NDArray[np.bool_]


class InteractionModel(pa.DataFrameModel):
    """Events of one dataset version; `row` is the place in the source, which only RecBole's tie order reads."""

    user_id: Series[np.int64] = pa.Field(ge=0)
    movie_id: Series[np.int64] = pa.Field(ge=0)
    rating: Series[np.float64] = pa.Field(nullable=False)
    timestamp: Series[np.int64] = pa.Field(ge=0, lt=MILLISECONDS_FROM)
    row: Series[np.int64] = pa.Field(ge=0, unique=True)

    class Config:
        strict = True
        unique = ["user_id", "movie_id"]  # noqa: RUF012 - pandera's own way


class ItemModel(pa.DataFrameModel):
    """Movies; an empty title marks one that is rated and not described."""

    movie_id: Series[np.int64] = pa.Field(ge=0, unique=True)
    title: Series[pd.StringDtype] = pa.Field(nullable=False)
    year: Series[pd.Int64Dtype] = pa.Field(ge=1870, le=2100, nullable=True)
    genres: Series[pd.StringDtype] = pa.Field(nullable=False)

    class Config:
        strict = True


class UserModel(pa.DataFrameModel):
    """Users; what a source does not tell is missing."""

    user_id: Series[np.int64] = pa.Field(ge=0, unique=True)
    gender: Series[pd.StringDtype] = pa.Field(nullable=True)
    age: Series[pd.Int64Dtype] = pa.Field(ge=0, le=150, nullable=True)
    occupation: Series[pd.StringDtype] = pa.Field(nullable=True)
    zip_code: Series[pd.StringDtype] = pa.Field(nullable=True)

    class Config:
        strict = True


@dataclass(frozen=True)
class TableReport:
    """rows = accepted + quarantined; a row with two faults counts under both reasons."""

    rows: int
    accepted: int
    quarantined: int
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationReport:
    """What validation found, JSON-able."""

    tables: dict[str, TableReport]
    items_without_metadata: int  # rated, kept, with an empty title

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Validated:
    """Tables that satisfy the models; interactions are sorted by user, time, movie."""

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    quarantined: pd.DataFrame  # table, row, reasons, cells (the original ones, as text)
    report: ValidationReport


def validate(raw: RawTables, settings: ValidationSettings, now: int) -> Validated:
    """Split `raw` into a clean dataset and a quarantine; `now` is UTC seconds.

    Raises DataRefusedError when a column holds nothing, too many rows are bad, or too few are left.
    """
    checks = _Checks("interactions", raw.interactions)
    interactions = _interactions(checks, settings, now)
    items, item_checks, undescribed = _items(raw.items, interactions)
    users, user_checks = _users(raw.users, interactions)
    tables = [table for table in (checks, item_checks, user_checks) if table is not None]
    report = ValidationReport({table.name: table.report() for table in tables}, undescribed)
    return Validated(
        interactions=InteractionModel.validate(interactions),
        items=ItemModel.validate(items),
        users=UserModel.validate(users),
        quarantined=pd.concat([table.quarantined() for table in tables], ignore_index=True),
        report=report,
    )


class _Checks:
    """Faults of one raw table, by row."""

    def __init__(self, name: str, raw: pd.DataFrame) -> None:
        self.name, self.raw = name, raw
        self.bad: Mask = np.zeros(len(raw), dtype=bool)
        self.reasons: dict[str, Mask] = {}

    def mark(self, mask: Mask, reason: str) -> None:
        if mask.any():
            self.reasons[reason] = self.reasons.get(reason, np.zeros(len(self.raw), dtype=bool)) | mask
            self.bad = self.bad | mask

    def numbers(self, column: str, *, whole: bool) -> npt.NDArray[np.float64] | npt.NDArray[np.int64]:
        """The column as numbers; cells that are none are marked, and 0 stands for them."""
        cells = self.raw[column]
        if cells.dtype.kind == "i":  # unsigned cells may not fit, so they are judged like any others
            return cells.to_numpy(np.int64)
        missing = cells.isna().to_numpy()
        if missing.all():
            raise DataRefusedError(
                f"The column {column} of the {self.name} is empty in all {len(cells)} rows. Fill it or give another source; "
                "nothing was stored."
            )
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        finite = np.isfinite(values)
        self.mark(missing, f"{column} is missing")
        self.mark(~finite & ~missing, f"{column} is not a number")
        if whole:
            self.mark(finite & (np.floor(values) != values), f"{column} is not a whole number")
            self.mark(finite & (np.abs(values) >= 2.0**53), f"{column} is too large")
            return np.where(finite & (np.abs(values) < 2.0**53), values, 0).astype(np.int64)
        return np.where(finite, values, 0)

    def report(self) -> TableReport:
        bad = int(self.bad.sum())
        counts = {reason: int(mask.sum()) for reason, mask in sorted(self.reasons.items())}
        return TableReport(len(self.raw), len(self.raw) - bad, bad, counts)

    def quarantined(self) -> pd.DataFrame:
        rows = np.flatnonzero(self.bad)
        cells = self.raw.iloc[rows].astype("string").fillna("")
        return pd.DataFrame(
            {
                "table": pd.Series([self.name] * len(rows), dtype="string"),
                "row": rows.astype(np.int64),
                "reasons": pd.Series([self._reasons_of(row) for row in rows], dtype="string"),
                "cells": pd.Series([" | ".join(row) for row in cells.itertuples(index=False)], dtype="string"),
            }
        )

    def _reasons_of(self, row: np.integer[Any]) -> str:
        return "; ".join(reason for reason, mask in self.reasons.items() if mask[row])


def _interactions(checks: _Checks, settings: ValidationSettings, now: int) -> pd.DataFrame:
    raw = checks.raw
    columns = {name: checks.numbers(name, whole=name != "rating") for name in INTERACTION_COLUMNS}
    parsed = ~checks.bad  # the range of a cell that is no number is not judged
    for name in ("user_id", "movie_id"):
        checks.mark(parsed & (columns[name] < 0), f"{name} is negative")
    rating, time = columns["rating"], columns["timestamp"]
    outside = (rating < settings.min_rating) | (rating > settings.max_rating)
    checks.mark(parsed & outside, f"rating is outside {settings.min_rating:g} to {settings.max_rating:g}")
    in_milliseconds = time > MILLISECONDS_FROM
    checks.mark(parsed & in_milliseconds, "timestamp is in milliseconds, not seconds")
    checks.mark(parsed & (time < 0), "timestamp is negative")
    checks.mark(parsed & (time >= 0) & (time < settings.earliest), "timestamp lies before the first MovieLens rating")
    checks.mark(parsed & ~in_milliseconds & (time > now + settings.max_future_s), "timestamp lies in the future")
    frame = pd.DataFrame({**columns, "row": np.arange(len(raw), dtype=np.int64)})
    frame["rating"] = frame["rating"].astype(np.float64)
    kept = np.flatnonzero(~checks.bad)
    # By user, time, movie; stable, so of events that agree in all three the last of the source comes last.
    order = kept[np.lexsort((columns["movie_id"][kept], time[kept], columns["user_id"][kept]))]
    frame = frame.take(order)
    repeated = frame.duplicated(["user_id", "movie_id"], keep="last").to_numpy()
    superseded = np.zeros(len(raw), dtype=bool)
    superseded[order[repeated]] = True
    checks.mark(superseded, "repeats a user and movie of a later event")
    _refuse(checks, settings)
    return frame[~repeated].reset_index(drop=True)


def _refuse(checks: _Checks, settings: ValidationSettings) -> None:
    rows, bad = len(checks.raw), int(checks.bad.sum())
    if rows and bad / rows > settings.max_quarantined_share:
        reasons = sorted(checks.reasons.items(), key=lambda entry: -int(entry[1].sum()))[:4]
        found = "; ".join(
            f"{reason}: {int(mask.sum())} rows, first data row {int(np.argmax(mask)) + 1} "
            f"({', '.join(f'{name}={value}' for name, value in checks.raw.iloc[int(np.argmax(mask))].items())})"
            for reason, mask in reasons
        )
        raise DataRefusedError(
            f"{bad} of {rows} {checks.name} ({bad / rows:.1%}) are bad, above validation.max_quarantined_share = "
            f"{settings.max_quarantined_share:.1%}. {found}. Mend the source, or raise the setting; nothing was stored."
        )
    if rows - bad < settings.min_rows:
        raise DataRefusedError(
            f"{rows - bad} valid {checks.name} are left of {rows}, fewer than validation.min_rows = {settings.min_rows}. Give more "
            "events, or lower the setting for a small data set; nothing was stored."
        )


def _items(raw: pd.DataFrame | None, interactions: pd.DataFrame) -> tuple[pd.DataFrame, _Checks | None, int]:
    rated = np.unique(interactions["movie_id"].to_numpy())
    checks = None
    frame = pd.DataFrame({"movie_id": rated[:0], "title": [], "year": [], "genres": []})
    if raw is not None and len(raw):
        checks = _Checks("items", raw)
        ids = _identity(checks, "movie_id")
        year = pd.to_numeric(raw["year"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        year = np.where((year >= 1870) & (year <= 2100), year, np.nan)
        frame = pd.DataFrame({"movie_id": ids, "title": raw["title"], "year": year, "genres": raw["genres"]})[~checks.bad]
    undescribed = np.setdiff1d(rated, frame["movie_id"].to_numpy(np.int64))
    frame = frame.set_index("movie_id").reindex(np.union1d(rated, frame["movie_id"].to_numpy(np.int64)))
    items = pd.DataFrame(
        {
            "movie_id": frame.index.to_numpy(np.int64),
            "title": frame["title"].astype("string").fillna("").array,
            "year": frame["year"].astype("Int64").array,
            "genres": frame["genres"].astype("string").fillna("").array,
        }
    )
    return items, checks, len(undescribed)


def _users(raw: pd.DataFrame | None, interactions: pd.DataFrame) -> tuple[pd.DataFrame, _Checks | None]:
    seen = np.unique(interactions["user_id"].to_numpy())
    checks = None
    frame = pd.DataFrame({"user_id": seen[:0]})
    if raw is not None and len(raw):
        checks = _Checks("users", raw)
        frame = raw.assign(user_id=_identity(checks, "user_id"))[~checks.bad]
    texts = {name: frame[name].astype("string") for name in ("gender", "occupation", "zip_code") if name in frame}
    frame = frame.assign(**texts).set_index("user_id")  # as text before rows are added: a whole number would become 5.0
    frame = frame.reindex(np.union1d(seen, frame.index.to_numpy(np.int64)))
    columns: dict[str, Any] = {"user_id": frame.index.to_numpy(np.int64)}
    for name in ("gender", "age", "occupation", "zip_code"):
        if name not in frame:
            columns[name] = pd.array([pd.NA] * len(frame), dtype="Int64" if name == "age" else "string")
        elif name == "age":
            age = pd.to_numeric(frame["age"], errors="coerce").astype("Float64")
            columns[name] = age.where((age >= 0) & (age <= 150)).round().astype("Int64").array
        else:
            columns[name] = frame[name].array
    return pd.DataFrame(columns), checks


def _identity(checks: _Checks, column: str) -> npt.NDArray[np.int64]:
    """Ids of a table that has one row for each; a repeated id is set aside."""
    ids = checks.numbers(column, whole=True).astype(np.int64)
    checks.mark(~checks.bad & (ids < 0), f"{column} is negative")
    good = np.flatnonzero(~checks.bad)
    repeated = np.zeros(len(ids), dtype=bool)
    repeated[good] = pd.Series(ids[good]).duplicated(keep="first").to_numpy()
    checks.mark(repeated, f"{column} stands in an earlier row")
    return ids
