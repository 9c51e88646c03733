"""Quarantine bad rows with reasons, refuse sources that are mostly bad, and check the rest with pandera models.

Every row is accounted for: rows in = accepted + duplicates + left out + quarantined, for each table. A repeated row is never bad.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyarrow import Table

from configs.errors import DataRefusedError
from configs.settings import ValidationSettings
from models.columns import Columns
from tasks.ingest.attributes import compact
from tasks.ingest.description_files import DescriptionFile
from tasks.ingest.events import Checks, EventReading, RowRules, joined_cells, judge_events, remedy
from tasks.ingest.features import earlier_events
from tasks.ingest.merge import deduplicate_latest
from tasks.ingest.metadata import ANY_TIME, attributes_of, compacted, described, seeded
from tasks.ingest.movielens import RawTables
from tasks.ingest.table_reading import Kind
from tasks.tables import PLAIN, DatasetProperties, ItemModel, UserModel, interaction_model

__all__ = [
    "Described",
    "TableReport",
    "Validated",
    "ValidationReport",
    "describe",
    "quarantined",
    "refuse_bad",
    "refuse_empty",
    "report_of",
    "told",
    "validate",
]

MOST_FAULTS = 8  # in one message
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
ONCE_READ = EventReading().once_read()


@dataclass(frozen=True)
class TableReport:
    """Row counts of one table: rows = accepted + duplicates + left_out + quarantined.

    A row with two faults counts under both reasons.
    """

    rows: int
    accepted: int
    quarantined: int
    reasons: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0  # good rows that another one with the same key (`DatasetProperties.key`), or of the same id, supersedes
    left_out: int = 0  # good events whose weight is 0


@dataclass(frozen=True)
class ValidationReport:
    """The result of validation. It can be stored as JSON."""

    tables: dict[str, TableReport]
    items_without_metadata: int  # items that have events, kept with an empty title

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        for table in found["tables"].values():
            if not table["left_out"]:  # as in all reports of data without weights
                del table["left_out"]
        return found

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> ValidationReport:
        """Return what `to_dict` stored."""
        return cls(**stored | {"tables": {name: TableReport(**counts) for name, counts in stored["tables"].items()}})

    def bad_descriptions(self) -> list[str]:
        """Return a sentence for each table of items or users with bad rows: how many, why, and what to do."""
        found: list[str] = []
        for name in [name for name, table in self.tables.items() if name != "interactions" and table.quarantined]:
            table = self.tables[name]
            frequent = sorted(table.reasons.items(), key=lambda each: -each[1])[:MOST_FAULTS]
            why = "; ".join(f"{reason} ({count:,}): {remedy(reason)}".removesuffix(": ") for reason, count in frequent)
            found.append(f"{table.quarantined:,} of {table.rows:,} rows of {name} are quarantined: {why}.")
        return found


@dataclass(frozen=True, eq=False)
class Validated:
    """Tables that satisfy the models. Interactions are sorted by user, time, item."""

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    quarantined: pd.DataFrame  # table, row, reasons, cells (the original cells, as text)
    report: ValidationReport
    superseded: pd.DataFrame  # Columns.HAPPENED of the events that happened before the one that counts (`earlier_events`)
    properties: DatasetProperties = PLAIN
    ids: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # user_ids and item_ids: the external ids of text ids


def validate(
    raw: RawTables,
    settings: ValidationSettings,
    now: int,
    properties: DatasetProperties = PLAIN,
    reading: EventReading = ONCE_READ,
) -> Validated:
    """Split `raw` into a clean dataset and a quarantine, in memory. `tasks.ingest.release` does the same in chunks.

    Args:
        raw: The tables.
        settings: The limits.
        now: UTC seconds.
        properties: What the events are.
        reading: How the events of `raw` are written (`IngestedSource.reading`).

    Raises:
        DataRefusedError: A column is empty, too many rows are bad, or too few rows are left.
    """
    checks = Checks("interactions", raw.interactions)
    interactions, superseded, report, texts = _interactions(checks, RowRules(settings, now, reading), properties)
    items, users = (np.unique(interactions[name].to_numpy(np.int64)) for name in (Columns.ITEM, Columns.USER))
    found = describe(raw.items, raw.users, items, users)
    return Validated(
        interactions=interaction_model(properties).validate(interactions),
        items=found.items,
        users=found.users,
        quarantined=pd.concat([quarantined(checks), found.quarantined], ignore_index=True),
        report=ValidationReport({"interactions": report, **found.reports}, items_without_metadata=found.items_without_metadata),
        superseded=earlier_events(superseded, [interactions]),
        properties=properties,
        ids={f"{column.removesuffix('_id')}_ids": _external(column, table) for column, table in texts.items()},
    )


def _external(column: str, pairs: Table) -> pd.DataFrame:
    """Return the map from the numbers of a column to the texts of the ids."""
    frame = pairs.to_pandas().set_axis([column, Columns.EXTERNAL_ID], axis=1)
    found: pd.DataFrame = frame.sort_values(column, ignore_index=True)
    return found


@dataclass(frozen=True, eq=False)
class Described:
    """The items and users of some events, and the quarantined rows of their raw tables."""

    items: pd.DataFrame
    users: pd.DataFrame
    quarantined: pd.DataFrame
    reports: dict[str, TableReport]
    items_without_metadata: int


def describe(
    raw_items: pd.DataFrame | None,
    raw_users: pd.DataFrame | None,
    item_ids: IntArray,
    user_ids: IntArray,
    files: Sequence[tuple[Kind, DescriptionFile]] = (),
) -> Described:
    """Return the items and users that a source describes or that occur in its events.

    Args:
        raw_items: The items of a release without headers.
        raw_users: The users of such a release.
        item_ids: The item ids that occur in the events, ascending.
        user_ids: The user ids that occur in the events, ascending.
        files: Files of descriptions. They count as newer than the raw tables.
    """
    items, item_checks = _items(raw_items, item_ids)
    users, user_checks = _users(raw_users, user_ids)
    checked = [table for table in (item_checks, user_checks) if table is not None]
    reports = {table.name: report_of(table) for table in checked}
    bad = [NOTHING_QUARANTINED, *(quarantined(table) for table in checked)]
    tables: dict[Kind, pd.DataFrame] = {"items": items, "users": users}
    ids_of: dict[Kind, IntArray] = {"items": item_ids, "users": user_ids}
    for kind, ids in ids_of.items():
        own = [file for each, file in files if each == kind]
        if own:
            applied, counts = described(
                kind, seeded(kind, tables[kind], ids), pd.concat([file.frame for file in own], ignore_index=True), ANY_TIME
            )
            tables[kind] = compacted(kind, applied)
            reports[kind] = _with_files(reports.get(kind, TableReport(0, 0, 0)), own, int(counts.sum()))
            bad += [_of_table(kind, file.quarantined) for file in own]
    without = np.isin(item_ids, tables["items"][Columns.ITEM].to_numpy(np.int64)[tables["items"][Columns.TITLE].eq("")])
    return Described(
        items=ItemModel.validate(tables["items"]),
        users=UserModel.validate(tables["users"]),
        quarantined=pd.concat(bad, ignore_index=True),
        reports=reports,
        items_without_metadata=int(without.sum()),
    )


def _with_files(report: TableReport, files: Sequence[DescriptionFile], accepted: int) -> TableReport:
    """Return the row counts of a table together with those of files that describe it. `accepted` rows of them count."""
    rows, good = sum(file.rows for file in files), sum(len(file.frame) for file in files)
    reasons = dict(report.reasons)
    for file in files:
        for joined in file.quarantined[Columns.REASONS]:
            for reason in str(joined).split("; "):
                reasons[reason] = reasons.get(reason, 0) + 1
    return replace(
        report,
        rows=report.rows + rows,
        accepted=report.accepted + accepted,
        quarantined=report.quarantined + rows - good,
        reasons=dict(sorted(reasons.items())),
        duplicates=report.duplicates + good - accepted,
    )


def quarantined(checks: Checks) -> pd.DataFrame:
    """Return table, row, reasons and cells of each bad row."""
    return _of_table(checks.name, checks.quarantined())


def _of_table(name: str, bad: pd.DataFrame) -> pd.DataFrame:
    found = bad.copy()
    found.insert(0, Columns.TABLE, pd.Series([name] * len(found), dtype="string"))
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


def told(reasons: Mapping[str, int], faults: Mapping[str, tuple[str, str]]) -> str:
    """Return all faults of a table for a message, the most frequent first: how many rows, the first one, and the remedy.

    Args:
        reasons: The number of rows by reason.
        faults: For each reason, where its first row is, such as "data row 3", and its cells.
    """
    found: list[str] = []
    mentioned = {""}
    for reason in sorted(reasons, key=lambda reason: -reasons[reason])[:MOST_FAULTS]:
        (place, cells), mend = faults[reason], remedy(reason)
        said = "" if mend in mentioned else f": {mend}"
        found.append(f"{reason}: {reasons[reason]} rows, first {place} ({cells}){said}")
        mentioned.add(mend)
    more = len(reasons) - MOST_FAULTS
    return "; ".join(found) + (f"; and {more} more kinds of faults" if more > 0 else "")


def refuse_bad(report: TableReport, faults: Mapping[str, tuple[str, str]], settings: ValidationSettings) -> None:
    """Raise DataRefusedError if too many events are bad or too few are left.

    Args:
        report: The row counts.
        faults: For each reason, where its first row is, and its cells.
        settings: The limits.
    """
    rows, bad = report.rows, report.quarantined
    if rows and bad / rows > settings.max_quarantined_share:
        raise DataRefusedError(
            f"{bad} of {rows} interactions ({bad / rows:.1%}) are bad, above validation.max_quarantined_share = "
            f"{settings.max_quarantined_share:.1%}. {told(report.reasons, faults)}. Fix the source, or raise the setting; nothing "
            "was stored."
        )
    if report.accepted < settings.min_rows:
        repeats = f" ({report.duplicates} more are duplicates)" if report.duplicates else ""
        faulty = f" {told(report.reasons, faults)}." if bad else ""
        weightless = (
            f" {report.left_out} more have the weight 0, which leaves them out: give their kind of event a weight above 0 in data.weights, "
            "or remove data.columns.weight."
            if report.left_out
            else ""
        )
        raise DataRefusedError(
            f"{report.accepted} of {rows} interactions are valid{repeats}, fewer than validation.min_rows = {settings.min_rows}."
            f"{faulty}{weightless} Provide more events, or lower the setting for a small dataset; nothing was stored."
        )


def _interactions(
    checks: Checks, rules: RowRules, properties: DatasetProperties
) -> tuple[pd.DataFrame, pd.DataFrame, TableReport, dict[str, Table]]:
    """Return the events that count, those that they supersede, the row counts, and the numbers and texts of text ids by column."""
    raw = checks.raw
    for column in rules.reading.read_columns:
        _refuse_if_empty(checks, column)
    judged = judge_events(checks, rules)
    good = ~(checks.bad | judged.left_out)
    frame = pd.DataFrame({**judged.columns, Columns.ROW: np.arange(len(raw), dtype=np.int64), Columns.FILE: np.int64(0)})
    frame[Columns.RATING] = frame[Columns.RATING].astype(np.float64)
    frame = frame[list(properties.with_weight(Columns.FILE_EVENT))][good].reset_index(drop=True)
    kept, superseded = deduplicate_latest(frame, keep_repeats=properties.keeps_repeats)
    found = report_of(checks)
    left_out = int(judged.left_out.sum())
    report = replace(found, accepted=len(kept), duplicates=len(superseded), left_out=left_out)
    first = {reason: int(np.argmax(mask)) for reason, mask in checks.reasons.items()}
    cells = joined_cells(raw.iloc[list(first.values())])
    refuse_bad(
        report,
        {reason: (f"data row {row + 1}", str(text)) for (reason, row), text in zip(first.items(), cells, strict=True)},
        rules.settings,
    )
    return kept[list(properties.with_weight(Columns.INTERACTION))], superseded, report, judged.ids(good)


def _refuse_if_empty(checks: Checks, column: str) -> None:
    cells = checks.raw[column]
    if cells.isna().all():
        raise refuse_empty(checks.name, column, len(cells))


def _items(raw: pd.DataFrame | None, with_events: IntArray) -> tuple[pd.DataFrame, Checks | None]:
    checks = None
    frame = pd.DataFrame({Columns.ITEM: with_events[:0], **{name: [] for name in Columns.ITEM_DESCRIPTION}})
    if raw is not None and len(raw):
        checks = Checks("items", raw)
        ids = _identity(checks, Columns.ITEM)
        year = pd.to_numeric(raw[Columns.YEAR], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        year = np.where((year >= 1870) & (year <= 2100) & (year == np.round(year)), year, np.nan)
        frame = raw.assign(**{Columns.ITEM: ids, Columns.YEAR: year})[~checks.bad]
    ids_described = frame[Columns.ITEM].to_numpy(np.int64)
    frame = frame.set_index(Columns.ITEM).reindex(np.union1d(with_events, ids_described))
    items = pd.DataFrame(
        {
            Columns.ITEM: frame.index.to_numpy(np.int64),
            Columns.TITLE: frame[Columns.TITLE].astype("string").fillna("").array,
            Columns.YEAR: frame[Columns.YEAR].astype("Int64").array,
            Columns.GENRES: frame[Columns.GENRES].astype("string").fillna("").array,
        }
    )
    return _with_attributes("items", items, frame), checks


def _with_attributes(kind: Kind, table: pd.DataFrame, raw: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the attributes of the raw table, whose index is the ids of the other one."""
    names = attributes_of(kind, raw.reset_index())
    return table.assign(**{name: compact(raw[name]).array for name in names})


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
    return _with_attributes("users", pd.DataFrame(columns), frame), checks


def _identity(checks: Checks, column: str) -> npt.NDArray[np.int64]:
    """Return the ids of a table with one row per id.

    If rows have the same id, the greatest one by its cells as text stays, so that their order does not matter. The others are bad.
    """
    _refuse_if_empty(checks, column)
    ids = checks.numbers(column, whole=True).astype(np.int64)
    checks.mark(~checks.bad & (ids < 0), f"{column} is negative")
    good = np.flatnonzero(~checks.bad)
    repeated = np.zeros(len(ids), dtype=bool)
    if len(np.unique(ids[good])) < len(good):
        texts = joined_cells(checks.raw.iloc[good]).to_numpy(object).astype(str)
        good = good[np.lexsort((-good, texts, ids[good]))]  # of equal rows, the first one stays
        repeated[good] = pd.Series(ids[good]).duplicated(keep="last").to_numpy()
    checks.mark(repeated, f"{column} is in another row, too")
    return ids
