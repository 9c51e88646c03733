"""Quarantine bad rows with reasons, refuse sources that are mostly bad, and check the rest with pandera models.

Every row is accounted for: rows in = accepted + quarantined, for each table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from configs.errors import DataRefusedError
from configs.settings import ValidationSettings
from models.columns import Columns
from tasks.ingest.features import earlier_events
from tasks.ingest.movielens import RawTables
from tasks.ingest.row_checks import MILLISECONDS_FROM, Checks, joined_cells, judge_events

__all__ = [
    "SUPERSEDED",
    "AcceptedModel",
    "Described",
    "InteractionModel",
    "ItemModel",
    "TableReport",
    "UserModel",
    "Validated",
    "ValidationReport",
    "describe",
    "quarantined",
    "refuse_bad",
    "refuse_empty",
    "report_of",
    "validate",
]

SUPERSEDED = "repeats a user and movie of a later event"
NOTHING_QUARANTINED = pd.DataFrame(
    {
        name: pd.Series(dtype=kind)
        for name, kind in (
            (Columns.TABLE, "string"),
            (Columns.ROW, np.int64),
            (Columns.REASONS, "string"),
            (Columns.CELLS, "string"),
        )
    }
)
IntArray = npt.NDArray[np.int64]


class AcceptedModel(pa.DataFrameModel):
    """Accepted events. `row` is the position in the source, which only RecBole's tie order uses."""

    user: Series[np.int64] = pa.Field(alias=Columns.USER, ge=0)
    item: Series[np.int64] = pa.Field(alias=Columns.ITEM, ge=0)
    rating: Series[np.float64] = pa.Field(alias=Columns.RATING, nullable=False)
    time: Series[np.int64] = pa.Field(alias=Columns.TIME, ge=0, lt=MILLISECONDS_FROM)
    row: Series[np.int64] = pa.Field(alias=Columns.ROW, ge=0)

    class Config:
        strict = True


class InteractionModel(AcceptedModel):
    """The events of one dataset version."""

    row: Series[np.int64] = pa.Field(alias=Columns.ROW, ge=0, unique=True)

    class Config:
        strict = True
        unique = [Columns.USER, Columns.ITEM]  # noqa: RUF012 - pandera's convention


class ItemModel(pa.DataFrameModel):
    """Items. An empty title marks an item that has ratings but no description."""

    item: Series[np.int64] = pa.Field(alias=Columns.ITEM, ge=0, unique=True)
    title: Series[pd.StringDtype] = pa.Field(alias=Columns.TITLE, nullable=False)
    year: Series[pd.Int64Dtype] = pa.Field(alias=Columns.YEAR, ge=1870, le=2100, nullable=True)
    genres: Series[pd.StringDtype] = pa.Field(alias=Columns.GENRES, nullable=False)

    class Config:
        strict = True


class UserModel(pa.DataFrameModel):
    """Users. Values that the source does not provide are missing."""

    user: Series[np.int64] = pa.Field(alias=Columns.USER, ge=0, unique=True)
    gender: Series[pd.StringDtype] = pa.Field(alias=Columns.GENDER, nullable=True)
    age: Series[pd.Int64Dtype] = pa.Field(alias=Columns.AGE, ge=0, le=150, nullable=True)
    occupation: Series[pd.StringDtype] = pa.Field(alias=Columns.OCCUPATION, nullable=True)
    zip_code: Series[pd.StringDtype] = pa.Field(alias=Columns.ZIP_CODE, nullable=True)

    class Config:
        strict = True


@dataclass(frozen=True)
class TableReport:
    """Row counts of one table: rows = accepted + quarantined. A row with two faults counts under both reasons."""

    rows: int
    accepted: int
    quarantined: int
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationReport:
    """The result of validation. It can be stored as JSON."""

    tables: dict[str, TableReport]
    items_without_metadata: int  # items that have events, kept with an empty title

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Validated:
    """Tables that satisfy the models. Interactions are sorted by user, time, item."""

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    quarantined: pd.DataFrame  # table, row, reasons, cells (the original cells, as text)
    report: ValidationReport
    superseded: pd.DataFrame  # Columns.HAPPENED of the events that happened before the one that counts (`earlier_events`)


def validate(raw: RawTables, settings: ValidationSettings, now: int) -> Validated:
    """Split `raw` into a clean dataset and a quarantine, in memory. `tasks.ingest.release` does the same in chunks.

    Args:
        now: UTC seconds.

    Raises:
        DataRefusedError: A column is empty, too many rows are bad, or too few rows are left.
    """
    checks = Checks("interactions", raw.interactions)
    interactions, repeated = _interactions(checks, settings, now)
    described = describe(raw.items, raw.users, *(np.unique(interactions[name]) for name in (Columns.ITEM, Columns.USER)))
    return Validated(
        interactions=InteractionModel.validate(interactions),
        items=described.items,
        users=described.users,
        quarantined=pd.concat([quarantined(checks), described.quarantined], ignore_index=True),
        report=ValidationReport(
            {"interactions": report_of(checks), **described.reports}, items_without_metadata=described.items_without_metadata
        ),
        superseded=earlier_events(repeated, [interactions]),
    )


@dataclass(frozen=True, eq=False)
class Described:
    """The items and users of some events, and the quarantined rows of their raw tables."""

    items: pd.DataFrame
    users: pd.DataFrame
    quarantined: pd.DataFrame
    reports: dict[str, TableReport]
    items_without_metadata: int


def describe(raw_items: pd.DataFrame | None, raw_users: pd.DataFrame | None, item_ids: IntArray, user_ids: IntArray) -> Described:
    """Return the items and users that a source describes or that occur in its events.

    Args:
        item_ids: The item ids that occur in the events, ascending.
        user_ids: The user ids that occur in the events, ascending.
    """
    items, item_checks, undescribed = _items(raw_items, item_ids)
    users, user_checks = _users(raw_users, user_ids)
    tables = [table for table in (item_checks, user_checks) if table is not None]
    return Described(
        items=ItemModel.validate(items),
        users=UserModel.validate(users),
        quarantined=pd.concat([NOTHING_QUARANTINED, *(quarantined(table) for table in tables)], ignore_index=True),
        reports={table.name: report_of(table) for table in tables},
        items_without_metadata=undescribed,
    )


def quarantined(checks: Checks) -> pd.DataFrame:
    """Return table, row, reasons and cells of each bad row."""
    found = checks.quarantined()
    found.insert(0, Columns.TABLE, pd.Series([checks.name] * len(found), dtype="string"))
    return found


def report_of(checks: Checks) -> TableReport:
    """Return the row counts of a table."""
    bad = int(checks.bad.sum())
    return TableReport(len(checks.raw), len(checks.raw) - bad, bad, checks.counts())


def refuse_empty(name: str, column: str, rows: int) -> DataRefusedError:
    """Return the error for a column that is empty in all rows."""
    return DataRefusedError(
        f"The column {column} of the {name} is empty in all {rows} rows. Fill it or provide another source; nothing was stored."
    )


def refuse_bad(report: TableReport, faults: Mapping[str, tuple[int, str]], settings: ValidationSettings) -> None:
    """Raise DataRefusedError if too many events are bad or too few are left.

    Args:
        faults: For each reason, the first row (from 0) and its cells.
    """
    rows, bad = report.rows, report.quarantined
    if rows and bad / rows > settings.max_quarantined_share:
        worst = sorted(report.reasons, key=lambda reason: -report.reasons[reason])[:4]
        found = "; ".join(
            f"{reason}: {report.reasons[reason]} rows, first data row {faults[reason][0] + 1} ({faults[reason][1]})"
            for reason in worst
        )
        raise DataRefusedError(
            f"{bad} of {rows} interactions ({bad / rows:.1%}) are bad, above validation.max_quarantined_share = "
            f"{settings.max_quarantined_share:.1%}. {found}. Fix the source, or raise the setting; nothing was stored."
        )
    if report.accepted < settings.min_rows:
        raise DataRefusedError(
            f"{report.accepted} of {rows} interactions are valid, fewer than validation.min_rows = {settings.min_rows}. Provide "
            "more events, or lower the setting for a small dataset; nothing was stored."
        )


def _interactions(checks: Checks, settings: ValidationSettings, now: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the events that count, and those that they supersede."""
    raw = checks.raw
    for column in Columns.EVENT:
        _refuse_if_empty(checks, column)
    columns = judge_events(checks, settings, now)
    frame = pd.DataFrame({**columns, Columns.ROW: np.arange(len(raw), dtype=np.int64)})
    frame[Columns.RATING] = frame[Columns.RATING].astype(np.float64)
    kept = np.flatnonzero(~checks.bad)
    # By user, time, item, and of events that agree in all three, the highest rating comes last (`tasks.ingest.merge`).
    order = kept[np.lexsort([columns[name][kept] for name in (Columns.RATING, Columns.ITEM, Columns.TIME, Columns.USER)])]
    frame = frame.take(order)
    repeated = frame.duplicated([Columns.USER, Columns.ITEM], keep="last").to_numpy()
    superseded = np.zeros(len(raw), dtype=bool)
    superseded[order[repeated]] = True
    checks.mark(superseded, SUPERSEDED)
    first = {reason: int(np.argmax(mask)) for reason, mask in checks.reasons.items()}
    cells = joined_cells(raw.iloc[list(first.values())])
    refuse_bad(
        report_of(checks), {reason: (row, str(text)) for (reason, row), text in zip(first.items(), cells, strict=True)}, settings
    )
    return frame[~repeated].reset_index(drop=True), frame[repeated]


def _refuse_if_empty(checks: Checks, column: str) -> None:
    cells = checks.raw[column]
    if cells.dtype.kind != "i" and cells.isna().all():
        raise refuse_empty(checks.name, column, len(cells))


def _items(raw: pd.DataFrame | None, with_events: IntArray) -> tuple[pd.DataFrame, Checks | None, int]:
    checks = None
    frame = pd.DataFrame({Columns.ITEM: with_events[:0], **{name: [] for name in Columns.ITEM_DESCRIPTION}})
    if raw is not None and len(raw):
        checks = Checks("items", raw)
        ids = _identity(checks, Columns.ITEM)
        year = pd.to_numeric(raw[Columns.YEAR], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        year = np.where((year >= 1870) & (year <= 2100), year, np.nan)
        frame = raw.assign(**{Columns.ITEM: ids, Columns.YEAR: year})[~checks.bad]
    described = frame[Columns.ITEM].to_numpy(np.int64)
    undescribed = np.setdiff1d(with_events, described)
    frame = frame.set_index(Columns.ITEM).reindex(np.union1d(with_events, described))
    items = pd.DataFrame(
        {
            Columns.ITEM: frame.index.to_numpy(np.int64),
            Columns.TITLE: frame[Columns.TITLE].astype("string").fillna("").array,
            Columns.YEAR: frame[Columns.YEAR].astype("Int64").array,
            Columns.GENRES: frame[Columns.GENRES].astype("string").fillna("").array,
        }
    )
    return items, checks, len(undescribed)


def _users(raw: pd.DataFrame | None, with_events: IntArray) -> tuple[pd.DataFrame, Checks | None]:
    checks = None
    frame = pd.DataFrame({Columns.USER: with_events[:0]})
    if raw is not None and len(raw):
        checks = Checks("users", raw)
        frame = raw.assign(**{Columns.USER: _identity(checks, Columns.USER)})[~checks.bad]
    texts = {name: frame[name].astype("string") for name in Columns.USER_DESCRIPTION if name != Columns.AGE and name in frame}
    frame = frame.assign(**texts).set_index(Columns.USER)  # as text before rows are added, or a whole number would become 5.0
    frame = frame.reindex(np.union1d(with_events, frame.index.to_numpy(np.int64)))
    columns: dict[str, Any] = {Columns.USER: frame.index.to_numpy(np.int64)}
    for name in Columns.USER_DESCRIPTION:
        if name not in frame:
            columns[name] = pd.array([pd.NA] * len(frame), dtype="Int64" if name == Columns.AGE else "string")
        elif name == Columns.AGE:
            age = pd.to_numeric(frame[name], errors="coerce").astype("Float64")
            columns[name] = age.where((age >= 0) & (age <= 150)).round().astype("Int64").array
        else:
            columns[name] = frame[name].array
    return pd.DataFrame(columns), checks


def _identity(checks: Checks, column: str) -> npt.NDArray[np.int64]:
    """Return the ids of a table with one row per id. Rows with a repeated id are marked as bad."""
    _refuse_if_empty(checks, column)
    ids = checks.numbers(column, whole=True).astype(np.int64)
    checks.mark(~checks.bad & (ids < 0), f"{column} is negative")
    good = np.flatnonzero(~checks.bad)
    repeated = np.zeros(len(ids), dtype=bool)
    repeated[good] = pd.Series(ids[good]).duplicated(keep="first").to_numpy()
    checks.mark(repeated, f"{column} stands in an earlier row")
    return ids
