"""The data of the benchmarks, split by a protocol; nothing here needs Prefect, pandera or Evidently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from configs.settings import DataSettings, EvaluationSettings, ProtocolId, SourceName
from models.protocol import Split, split

__all__ = ["load_events", "load_split"]


def load_events(source: SourceName, path: Path | None = None) -> pd.DataFrame:
    """Interactions of a MovieLens release in source order, from `path` or else downloaded (ml-100k needs neither).

    Ends the program in one sentence where `path` is not there.
    """
    from tasks.ingest import ingest

    if path is not None and not path.exists():
        raise SystemExit(f"Skipped: there is no {path}; give --data the release's zip, or leave it out to download {source}.")
    events = ingest(DataSettings(source=source, local_path=path)).tables.interactions
    return events.assign(row=np.arange(len(events)))


def load_split(source: SourceName, path: Path | None, protocol: ProtocolId) -> Split:
    """`load_events` under a protocol with its default settings."""
    return split(load_events(source, path), EvaluationSettings(protocol=protocol))
