"""Account for the rows of files of any size: rows = accepted + duplicates + quarantined, by reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa

from configs.settings import ValidationSettings
from models.columns import Columns
from tasks.ingest.events import EventChunk
from tasks.ingest.validation import TableReport, refuse_bad, refuse_empty, told
from tasks.tables import AcceptedModel, ParquetWriter

__all__ = ["BAD_ROWS", "RowAccount", "TakeIds", "accepted_events", "events_of_file"]

TakeIds = Callable[[Mapping[str, pa.Table]], None]
BAD_ROWS = pa.schema([(Columns.ROW, pa.int64()), (Columns.REASONS, pa.string()), (Columns.CELLS, pa.string())])


class RowAccount:
    """Counts the rows of one or several files by chunk, and writes the bad ones to a Parquet file.

    Use it as a context manager while adding chunks. Rows are numbered across the files.
    """

    def __init__(self, quarantine: ParquetWriter) -> None:
        """Start an account. `quarantine` has the schema BAD_ROWS."""
        self.rows = self.accepted = self.left_out = 0
        self._reasons: dict[str, int] = {}
        self._first: dict[str, tuple[str, str]] = {}  # for each reason, where its first row is, and its cells
        self._files: list[tuple[int, str]] = []  # the number of rows before each file, and its name
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

    def begin(self, name: str) -> None:
        """Name the file of the next rows, if rows of several files are added."""
        self._files.append((self.rows, name))

    def add(self, rows: int, quarantined: pd.DataFrame, left_out: int = 0) -> None:
        """Count the next `rows` rows.

        Those in `quarantined` (Columns.BAD_ROW) are bad, `left_out` good ones have the weight 0, and the others are accepted.
        """
        self.accepted += rows - len(quarantined) - left_out
        self.left_out += left_out
        self.rows += rows
        self._quarantine.write(quarantined)
        for joined, bad in quarantined.groupby(Columns.REASONS, sort=False):
            for reason in str(joined).split("; "):
                self._reasons[reason] = self._reasons.get(reason, 0) + len(bad)
                before, of = (self._files[-1][0], f" of {self._files[-1][1]}") if self._files else (0, "")
                place = f"data row {int(bad[Columns.ROW].iloc[0]) - before + 1}{of}"
                self._first.setdefault(reason, (place, str(bad[Columns.CELLS].iloc[0])))

    def told(self) -> str:
        """Return all faults for a message: how many rows, the first one, and the remedy."""
        return told(self._reasons, self._first)

    def report(self, duplicates: int, settings: ValidationSettings) -> TableReport:
        """Return the row counts. `duplicates` of the accepted rows are superseded by another event of the same user and item.

        Raises:
            DataRefusedError: A column is empty, too many rows are bad, or too few rows are left.
        """
        for column in (*Columns.EVENT, Columns.WEIGHT):
            if self._reasons.get(f"{column} is missing") == self.rows:
                raise refuse_empty("interactions", column, self.rows)
        report = self.counted(duplicates)
        refuse_bad(report, self._first, settings)
        return report

    def counted(self, duplicates: int) -> TableReport:
        """Return the row counts, whatever they are. See `report`."""
        return TableReport(
            rows=self.rows,
            accepted=self.accepted - duplicates,
            quarantined=self.rows - self.accepted - self.left_out,
            reasons=self.reasons,
            duplicates=duplicates,
            left_out=self.left_out,
        )

    def quarantined(self) -> pd.DataFrame:
        """Return table, row, reasons and cells of each bad row, in the order of the rows.

        If the files have names, their column `file` follows, and `row` is the position in that file.
        """
        found = _texts(pd.read_parquet(self._quarantine.path)).sort_values(Columns.ROW, ignore_index=True)
        found.insert(0, Columns.TABLE, pd.Series(["interactions"] * len(found), dtype="string"))
        if self._files:
            starts = np.array([start for start, _ in self._files])
            place = np.searchsorted(starts, found[Columns.ROW].to_numpy(), side="right") - 1
            found[Columns.ROW] -= starts[place]
            found[Columns.FILE] = pd.Series(np.array([name for _, name in self._files], dtype=object)[place], dtype="string")
        return found


def accepted_events(
    chunks: Iterable[EventChunk],
    account: RowAccount,
    ordinal: int = 0,
    take_ids: TakeIds | None = None,
) -> Iterator[pd.DataFrame]:
    """Validate the chunks of a file, and add them to the account.

    Args:
        chunks: The chunks.
        account: The account of the file, or of several.
        ordinal: The value of `file` in its events.
        take_ids: Takes the text ids of each chunk, if there are any (`EventChunk.ids`).

    Yields:
        The accepted events of a chunk, with Columns.FILE_EVENT.

    Raises:
        SourceError: The file is damaged.
    """
    start = account.rows
    for chunk in chunks:
        found = chunk.following(start)
        account.add(found.rows, found.quarantined, found.left_out)
        if take_ids is not None and found.ids:
            take_ids(found.ids)
        yield events_of_file(found.accepted, ordinal)


def events_of_file(accepted: pd.DataFrame, ordinal: int) -> pd.DataFrame:
    """Validate accepted events, and return them with Columns.FILE_EVENT and, if they have one, their weight."""
    events = AcceptedModel.validate(accepted).assign(**{Columns.FILE: np.int64(ordinal)})
    return events[[*Columns.FILE_EVENT, Columns.WEIGHT]] if Columns.WEIGHT in events else events


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({Columns.ROW: np.int64, Columns.REASONS: "string", Columns.CELLS: "string"})
