"""The data of the benchmarks, split by a protocol; nothing here needs Prefect, pandera or Evidently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.report import skip
from configs.errors import SourceError
from configs.settings import DataSettings, EvaluationSettings, ProtocolId, SourceName
from models.protocol import Split, split

__all__ = ["load_events", "load_split", "origin"]


def origin(source: SourceName, path: Path | None) -> dict[str, str]:
    """What a result says of its data: the release, and the file that it was read from."""
    return {"data": source, "file": path.name if path is not None else f"{source}, as published"}


def load_events(source: SourceName, path: Path | None = None) -> pd.DataFrame:
    """Interactions of a MovieLens release in source order, from `path` or else downloaded (ml-100k needs neither).

    Skips the benchmark where it cannot be had.
    """
    from tasks.ingest import ingest

    if path is not None and not path.exists():
        skip(f"there is no {path}; give --data the release's zip, or leave it out to download {source}.")
    try:
        events = ingest(DataSettings(source=source, local_path=path)).tables.interactions
    except SourceError as error:
        skip(str(error))
    return events.assign(row=np.arange(len(events)))


def load_split(source: SourceName, path: Path | None, protocol: ProtocolId) -> Split:
    """`load_events` under a protocol with its default settings."""
    return split(load_events(source, path), EvaluationSettings(protocol=protocol))
