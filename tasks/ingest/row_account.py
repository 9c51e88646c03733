"""Account for the events of one file of any size: rows = accepted + quarantined, by reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from configs.settings import ValidationSettings
from tasks.ingest.movielens import INTERACTION_COLUMNS
from tasks.ingest.row_checks import joined_cells
from tasks.ingest.validation import SUPERSEDED, TableReport, refuse_bad, refuse_empty
from tasks.tables import ParquetWriter

__all__ = ["EventAccount"]


class EventAccount:
    """Counts the rows of a file by chunk, and writes the quarantined rows to the Parquet file `path`.

    Use it as a context manager while adding chunks.
    """

    def __init__(self, path: Path) -> None:
        self.rows = self.accepted = 0
        self.reasons: dict[str, int] = {}
        self._first: dict[str, tuple[int, str]] = {}  # for each reason, the first row and its cells
        self._writer = ParquetWriter(path, temporary=True)

    def __enter__(self) -> EventAccount:
        self._writer.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        if raised[0] is None and not self.rows:
            self._writer.write(_texts(pd.DataFrame({"row": np.empty(0, dtype=np.int64), "reasons": "", "cells": ""})))
        self._writer.__exit__(*raised)  # type: ignore[arg-type]

    def add(self, rows: int, quarantined: pd.DataFrame) -> None:
        """Count the next `rows` rows. Those in `quarantined` (row, reasons, cells) are bad, and the others are accepted."""
        self.accepted += rows - len(quarantined)
        self.rows += rows
        self._writer.write(_texts(quarantined))
        for joined, bad in quarantined.groupby("reasons", sort=False):
            for reason in str(joined).split("; "):
                self.reasons[reason] = self.reasons.get(reason, 0) + len(bad)
                self._first.setdefault(reason, (int(bad["row"].iloc[0]), str(bad["cells"].iloc[0])))

    def report(self, superseded: pd.DataFrame, settings: ValidationSettings) -> TableReport:
        """Return the row counts. Accepted rows that another event supersedes count as quarantined.

        Raises:
            DataRefusedError: A column is empty, too many rows are bad, or too few rows are left.
        """
        for column in INTERACTION_COLUMNS:
            if self.reasons.get(f"{column} is missing") == self.rows:
                raise refuse_empty("interactions", column, self.rows)
        reasons, first = dict(self.reasons), dict(self._first)
        if len(superseded):
            place = int(superseded["row"].argmin())
            reasons[SUPERSEDED] = len(superseded)
            first[SUPERSEDED] = (int(superseded["row"].iloc[place]), _cells(superseded.iloc[[place]]).iloc[0])
        accepted = self.accepted - len(superseded)
        report = TableReport(self.rows, accepted, self.rows - accepted, dict(sorted(reasons.items())))
        refuse_bad(report, first, settings)
        return report

    def quarantined(self, superseded: pd.DataFrame) -> pd.DataFrame:
        """Return table, row, reasons and cells of each row that is not accepted or is superseded, in file order."""
        bad = _texts(pd.read_parquet(self._writer.path))
        repeated = pd.DataFrame({"row": superseded["row"], "reasons": SUPERSEDED, "cells": _cells(superseded)})
        found = pd.concat([bad, _texts(repeated)], ignore_index=True).sort_values("row", ignore_index=True)
        found.insert(0, "table", pd.Series(["interactions"] * len(found), dtype="string"))
        return found


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({"row": np.int64, "reasons": "string", "cells": "string"})


def _cells(events: pd.DataFrame) -> pd.Series[str]:
    return joined_cells(events[INTERACTION_COLUMNS].map(lambda value: f"{value:.15g}"))
