"""Load the data of the benchmarks and split it by a protocol. Does not need Prefect, pandera or Evidently."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.report import skip
from configs.errors import SourceError
from configs.settings import DataSettings, EvaluationSettings, ProtocolId, SourceName
from models.evaluation import Split, split

if TYPE_CHECKING:
    from tasks.ingest.movielens import RawTables

__all__ = ["load_events", "load_split", "load_tables", "load_users", "origin"]


def origin(source: SourceName, path: Path | None) -> dict[str, str]:
    """Describe the data of a result: the release, and the file that it was read from."""
    return {"data": source, "file": path.name if path is not None else f"{source}, as published"}


def load_events(source: SourceName, path: Path | None = None) -> pd.DataFrame:
    """Load the interactions of a MovieLens release in source order, from `path` or by download (ml-100k needs neither).

    Skips the benchmark if the data is not available.
    """
    events = load_tables(source, path).interactions
    return events.assign(row=np.arange(len(events)))


def load_users(source: SourceName, path: Path | None) -> pd.DataFrame:
    """Load the user attributes of the release, or only user_id if it has none. Skips the benchmark as `load_events` does."""
    tables = load_tables(source, path)
    if tables.users is None:
        return pd.DataFrame({"user_id": np.unique(tables.interactions["user_id"])})
    users = tables.users
    ages = {"age": pd.to_numeric(users["age"], errors="coerce")} if "age" in users else {}
    return users.assign(user_id=users["user_id"].astype(np.int64), **ages)


def load_tables(source: SourceName, path: Path | None) -> RawTables:
    """Load the release's raw tables from `path` or by download. Skips the benchmark if they are not available."""
    from tasks.ingest import ingest

    if path is not None and not path.exists():
        skip(f"there is no {path}; give --data the release's zip, or leave it out to download {source}.")
    try:
        return ingest(DataSettings(source=source, local_path=path)).tables
    except SourceError as error:
        skip(str(error))


def load_split(source: SourceName, path: Path | None, protocol: ProtocolId, **settings: Any) -> Split:
    """Load the events and split them under a protocol, with its default settings except for those that are given."""
    return split(load_events(source, path), EvaluationSettings(protocol=protocol, **settings))
