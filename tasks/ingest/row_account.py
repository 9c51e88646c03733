"""Account for the rows of one file of any size: rows = accepted + quarantined, by reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa

from configs.settings import ValidationSettings
from models.columns import Columns
from tasks.ingest.event_files import EventFile
from tasks.ingest.row_checks import joined_cells
from tasks.ingest.validation import SUPERSEDED, AcceptedModel, TableReport, refuse_bad, refuse_empty
from tasks.tables import ParquetWriter

__all__ = ["BAD_ROWS", "RowAccount", "accepted_events"]

BAD_ROWS = pa.schema([(Columns.ROW, pa.int64()), (Columns.REASONS, pa.string()), (Columns.CELLS, pa.string())])


class RowAccount:
    """Counts the rows of a file by chunk, and writes the bad ones to a Parquet file.

    Use it as a context manager while adding chunks.
    """

    def __init__(self, quarantine: ParquetWriter) -> None:
        """Start an account. `quarantine` has the schema BAD_ROWS."""
        self.rows = self.accepted = 0
        self._reasons: dict[str, int] = {}
        self._first: dict[str, tuple[int, str]] = {}  # for each reason, the first row and its cells
        self._quarantine = quarantine

    def __enter__(self) -> Self:
        self._quarantine.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._quarantine.__exit__(*raised)  # type: ignore[arg-type]

    @property
    def reasons(self) -> dict[str, int]:
        """The number of bad rows by reason. A row with two faults counts under both."""
        return dict(sorted(self._reasons.items()))

    def add(self, rows: int, quarantined: pd.DataFrame) -> None:
        """Count the next `rows` rows. Those in `quarantined` (Columns.BAD_ROW) are bad, and the others are accepted."""
        self.accepted += rows - len(quarantined)
        self.rows += rows
        self._quarantine.write(quarantined)
        for joined, bad in quarantined.groupby(Columns.REASONS, sort=False):
            for reason in str(joined).split("; "):
                self._reasons[reason] = self._reasons.get(reason, 0) + len(bad)
                self._first.setdefault(reason, (int(bad[Columns.ROW].iloc[0]), str(bad[Columns.CELLS].iloc[0])))

    def report(self, superseded: pd.DataFrame, settings: ValidationSettings) -> TableReport:
        """Return the row counts. Accepted rows that another event supersedes count as quarantined.

        Raises:
            DataRefusedError: A column is empty, too many rows are bad, or too few rows are left.
        """
        for column in Columns.EVENT:
            if self._reasons.get(f"{column} is missing") == self.rows:
                raise refuse_empty("interactions", column, self.rows)
        reasons, first = dict(self._reasons), dict(self._first)
        if len(superseded):
            place = int(superseded[Columns.ROW].argmin())
            reasons[SUPERSEDED] = len(superseded)
            first[SUPERSEDED] = (int(superseded[Columns.ROW].iloc[place]), _cells(superseded.iloc[[place]]).iloc[0])
        accepted = self.accepted - len(superseded)
        report = TableReport(self.rows, accepted, self.rows - accepted, dict(sorted(reasons.items())))
        refuse_bad(report, first, settings)
        return report

    def quarantined(self, superseded: pd.DataFrame) -> pd.DataFrame:
        """Return table, row, reasons and cells of each row that is not accepted or is superseded, in file order."""
        bad = _texts(pd.read_parquet(self._quarantine.path))
        repeated = pd.DataFrame(
            {Columns.ROW: superseded[Columns.ROW], Columns.REASONS: SUPERSEDED, Columns.CELLS: _cells(superseded)}
        )
        found = pd.concat([bad, _texts(repeated)], ignore_index=True).sort_values(Columns.ROW, ignore_index=True)
        found.insert(0, Columns.TABLE, pd.Series(["interactions"] * len(found), dtype="string"))
        return found


def accepted_events(file: EventFile, account: RowAccount, ordinal: int = 0) -> Iterator[pd.DataFrame]:
    """Read and validate a file chunk by chunk, and add it to the account.

    Args:
        file: The events.
        account: The account of the file.
        ordinal: The value of `file` in its events.

    Yields:
        The accepted events of a chunk, with Columns.FILE_EVENT.

    Raises:
        SourceError: The file is damaged.
    """
    for chunk in file.chunks():
        account.add(chunk.rows, chunk.quarantined)
        yield AcceptedModel.validate(chunk.accepted).assign(**{Columns.FILE: np.int64(ordinal)})


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({Columns.ROW: np.int64, Columns.REASONS: "string", Columns.CELLS: "string"})


def _cells(events: pd.DataFrame) -> pd.Series[str]:
    return joined_cells(events[list(Columns.EVENT)].map(lambda value: f"{value:.15g}"))
