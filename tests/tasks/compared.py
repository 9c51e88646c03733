"""Small comparisons for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.settings import ValidationSettings
from configs.studies import CompareSettings
from infra.storage import open_store
from tasks.datasets import DatasetRef, write_dataset
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tests import synthetic

TINY_NCF = {"mf_width": 8, "mlp_width": 8, "mlp_hidden": [16, 8], "max_epochs": 2, "device": "cpu"}
TINY_SS4REC = {
    "width": 16,
    "blocks": 1,
    "time_state": 4,
    "relation_state": 4,
    "max_length": 20,
    "max_epochs": 2,
    "device": "cpu",
}
ENTRIES = [
    {"name": "popularity", "kind": "popularity"},
    {"name": "ncf", "kind": "ncf", "settings": TINY_NCF},
    {"name": "ss4rec", "kind": "ss4rec", "settings": TINY_SS4REC},
]


def small_comparison(folder: Path, **changes: Any) -> CompareSettings:
    """Settings of a comparison that takes seconds and leaves everything in `folder`."""
    values = {
        "id": "small",
        "entries": ENTRIES,
        "seeds": [1],
        "data": {"local_path": str(folder / "data" / "ratings.csv"), "cache_dir": str(folder / "cache")},
        "validation": {"min_rows": 100},
        "resamples": 300,
        "store": {"url": f"file:{folder}/store"},
        "tracking": {"mode": "off"},
        "work_dir": str(folder / "work"),
    }
    return CompareSettings.model_validate(values | changes)


def stored_dataset(settings: CompareSettings, seed: int = 0) -> DatasetRef:
    """A synthetic dataset version in the comparison's store."""
    frame = synthetic.interactions(60, 40, 25, seed=seed)
    validated = validate(RawTables(frame, None, None, ()), ValidationSettings(min_rows=100), 2_000_000_000)
    return write_dataset(open_store(settings.store), "ml-100k", validated, build_features(validated.interactions), {})
