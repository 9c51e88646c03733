"""Small stored versions for tests: real models on real files."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from configs.settings import EvaluationSettings, PopularitySettings
from infra.registry import Lineage, ModelRef, ModelRegistry, StagedVersion, machine_facts
from infra.storage import Store
from infra.storage.local import LocalStore
from models.evaluation import Split, split
from models.popularity import Popularity
from tasks.evaluation.load_check import SAMPLE_FILE, check_loaded, sample_requests
from tests import synthetic

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "ranker"
LATER = NOW + timedelta(days=1)


def small_split(seed: int = 0) -> Split:
    frame = synthetic.interactions(60, 40, 25, seed=seed)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def stage_popularity(store: Store, folder: Path, parts: Split | None = None, hour: int = 0) -> StagedVersion:
    """A popularity model with sample requests, uploaded and not sealed."""
    parts = parts or small_split()
    model = Popularity(PopularitySettings())
    model.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=True)
    model.save(folder)
    (folder / SAMPLE_FILE).write_text(json.dumps(sample_requests(model, parts.test, count=5, seed=0)))
    return ModelRegistry(store).stage(NAME, folder, NOW + timedelta(hours=hour))


def sealed(store: Store, folder: Path, hour: int = 0, outcome: str = "promoted", parts: Split | None = None) -> ModelRef:
    """A sealed popularity version."""
    staged = stage_popularity(store, folder, parts, hour)
    lineage = Lineage(
        kind="popularity",
        dataset="small/abc",
        protocol="loo-exact",
        seed=0,
        settings={},
        metrics={"hr@10": 0.2, "ndcg@10": 0.1},
        duration_s=1.0,
        cost=None,
        **machine_facts(),
    )
    return ModelRegistry(store).seal(staged, {"outcome": outcome, "reasons": []}, lineage, NOW + timedelta(hours=hour))


def publish_and_promote(store: Store, trained: Path, hours: int = 0) -> ModelRef:
    """Publish and promote a trained model, as a run does."""
    registry = ModelRegistry(store)
    current = registry.champion(NAME)
    staged = registry.stage(NAME, trained, LATER + timedelta(hours=hours))
    old = registry.versions(NAME)[0]
    lineage = Lineage(**registry.manifest(NAME, old.version)["lineage"])
    ref = registry.seal(staged, {"outcome": "promoted", "reasons": []}, lineage, LATER)
    registry.promote(NAME, ref.version, expected=current.number if current else 0, reason="better", now=LATER)
    return ref


def check_whole(store: Store, ref: ModelRef) -> None:
    """Check that the files match the manifest. The loaded model must answer as the trained one did."""
    with ModelRegistry(store).fetched(ref) as folder:
        check = check_loaded(folder)
        assert check.ok, check.reason


# What a process does while it is killed (tests/doubles/kill_points.py).


def publish_in(folder: Path, trained: Path) -> None:
    publish_and_promote(LocalStore(folder), trained)


def go_back(folder: Path, to: str) -> None:
    store = LocalStore(folder)
    ModelRegistry(store).rollback(NAME, to=to, reason="worse", now=LATER, check=partial(check_whole, store))
