"""A search that takes seconds, and a worker that can run as a separate process: `python -m tests.tasks.searching settings.json 0`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from configs.settings import ValidationSettings
from configs.studies import SearchSettings
from infra.storage import Store, open_store
from infra.storage.local import LocalStore
from models.recommender import EpochReport
from tasks.datasets import DatasetRef, list_datasets, write_dataset
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tasks.search import open_study, run_trials
from tests import synthetic
from tests.plain_ss4rec import PLAIN

SPACE: dict[str, Any] = {
    "width": {"choices": [4, 8]},
    "blocks": None,
    "time_state": None,
    "relation_state": None,
    "dropout": {"low": 0.1, "high": 0.5, "step": 0.1},
    "embedding_dropout": None,
    "two_norms": None,
    "interval": None,
    "loss": None,
    "label_smoothing": None,
    "weight_averaging": None,
    "learning_rate": {"low": 0.001, "high": 0.02, "log": True},
    "batch_tokens": None,
}


def make_search(folder: Path, seed: int = 0, **search: Any) -> tuple[Store, DatasetRef, SearchSettings]:
    """A store with one dataset version, and settings of a search on it."""
    store = LocalStore(folder / "store")
    lax = ValidationSettings(max_quarantined_share=1.0, min_rows=1)
    validated = validate(RawTables(synthetic.interactions(50, 40, 25, seed=seed), None, None, ()), lax, 1_700_000_000)
    dataset = write_dataset(store, "small", validated, build_features(validated.interactions), {"ratings.csv": "ab"})
    small = PLAIN | {
        "width": 8,
        "blocks": 1,
        "time_state": 4,
        "relation_state": 4,
        "max_length": 20,
        "max_epochs": 2,
        "device": "cpu",
    }
    settings = {
        "models": {"ss4rec": small},
        "store": {"url": f"file:{folder}/store"},
        "work_dir": str(folder / "work"),
        "search": {"trials": 3, "space": SPACE, "study": "s", **search},
    }
    return store, dataset, SearchSettings.model_validate(settings)


def main() -> None:
    """Work on the study that the settings name; with `stay`, stop in the middle of the first trial until killed."""
    settings = SearchSettings.model_validate(json.loads(Path(sys.argv[1]).read_text()))
    worker, stay = int(sys.argv[2]), "stay" in sys.argv
    store = open_store(settings.store)
    dataset = list_datasets(store)[0]

    def on_epoch(epoch: EpochReport) -> None:
        print(f"epoch {epoch.epoch}", flush=True)
        while stay:
            time.sleep(1)

    print(run_trials(store, dataset, open_study(dataset, settings), settings, worker, on_epoch=on_epoch))


if __name__ == "__main__":
    main()
