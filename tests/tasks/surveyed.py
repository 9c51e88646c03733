"""Events of a team, and what a survey of them proposes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.loading import load_settings
from configs.settings import RetrainSettings
from tasks.survey import Proposal, proposal_of, survey_of

__all__ = ["events_file", "proposed", "settings_of"]


def proposed(path: Path) -> Proposal:
    return proposal_of(survey_of(path), path)


def settings_of(proposal: Proposal, path: Path, tmp_path: Path) -> RetrainSettings:
    """Return the settings that the file gives."""
    file = tmp_path / "proposed.yaml"
    file.write_text(proposal.yaml(path), encoding="utf-8")
    return load_settings(RetrainSettings, [str(file)], [], {}, [RetrainSettings])


def events_file(folder: Path, **columns: Any) -> Path:
    """Write events of 40 users on 20 items, with these columns beside or instead of user_id, item_id and timestamp."""
    rows = 800
    frame = {
        "user_id": np.arange(rows) // 20 + 1,
        "item_id": np.arange(rows) % 20 + 100,
        "timestamp": 1_600_000_000 + 3600 * np.arange(rows),
    } | columns
    folder.mkdir(exist_ok=True)
    pd.DataFrame({name: values for name, values in frame.items() if values is not None}).to_csv(
        folder / "events.csv", index=False
    )
    return folder / "events.csv"
