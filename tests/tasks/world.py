"""A store with a champion on older data and a challenger on newer data. The gate would promote it, and attacks spoil it.

Everything is made by the product's own stages, without Prefect: real events, real training, real evaluation.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.settings import RetrainSettings
from infra.registry import ModelRef, ModelRegistry, StagedVersion, file_digests
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, write_dataset
from tasks.evaluation import Evaluation, VersionFolder, assemble_version, evaluate
from tasks.gate import publish, stage_challenger
from tasks.ingest import build_features, ingest
from tasks.ingest.validation import validate
from tasks.training import Candidate, train_candidate
from tests import synthetic

NAME = "ranker"
SETTINGS: dict[str, Any] = {
    "model_name": NAME,
    "seed": 7,
    "validation": {"min_rows": 100},
    "models": {
        "ss4rec": {
            "width": 16,
            "blocks": 1,
            "time_state": 4,
            "relation_state": 4,
            "max_length": 20,
            "max_epochs": 10,
            "learning_rate": 0.01,
            "dropout": 0.1,
            "embedding_dropout": 0.0,
            "device": "cpu",
        },
        "ncf": None,
    },
    "promotion": {
        "floors": {"hr_at_10": 0.01, "ndcg_at_10": 0.001},
        "baselines": ["popularity"],
        "resamples": 1100,
        "sample_requests": 3,
        "min_slice_requests": 20,
    },
}


@dataclass(frozen=True)
class World:
    """Everything that one test uses, under one folder."""

    store: LocalStore
    settings: RetrainSettings
    older: DatasetRef
    newer: DatasetRef
    candidates: list[Candidate]  # popularity and SS4Rec, on `newer`
    evaluation: Evaluation
    assembled: VersionFolder  # the challenger's, on the training machine
    first: ModelRef  # the champion, on `older`

    @property
    def folder(self) -> Path:
        return Path(self.assembled.path)

    def stage(self, *, evaluated_again: bool = False) -> StagedVersion:
        """Stage the challenger; with `evaluated_again`, the files now in its folder count as those that evaluation left."""
        found = replace(self.assembled, files=file_digests(self.folder)) if evaluated_again else self.assembled
        return stage_challenger(self.store, NAME, found)

    def seal(self, staged: StagedVersion) -> ModelRef:
        """Seal without a decision, as `recsys model train` does."""
        return publish(self.store, staged, None, self.candidates[-1], self.evaluation, self.settings)

    def champion(self) -> str:
        current = ModelRegistry(self.store).champion(NAME)
        assert current is not None
        return current.version

    def stored(self) -> dict[str, str]:
        return {key: hashlib.sha256(self.store.get(key)).hexdigest() for key in self.store.list()}

    def untouched(self) -> bool:
        """Whether the first version is still the champion and the only version."""
        return self.champion() == self.first.version and ModelRegistry(self.store).versions(NAME) == [self.first]


def make_world(root: Path) -> World:
    """Make the world from scratch, with some seconds of training."""
    base = synthetic.interactions(80, 40, 25)
    # Events after the older dataset: those of new users, one more event of 20 other users, and two more of another 20. The
    # newer dataset validates or trains on the events that the older one tests these 40 users on.
    more = synthetic.interactions(30, 40, 25, seed=9).assign(user_id=lambda f: f["user_id"] + 500)
    movies = np.sort(base["item_id"].unique())
    rows = []
    for user in range(1, 41):
        unseen = np.setdiff1d(movies, base["item_id"][base["user_id"] == user])
        rows += [(user, item, 4, int(base["timestamp"].max()) + 1000 + item) for item in unseen[: 1 + (user > 20)]]
    later = pd.DataFrame(rows, columns=base.columns)
    settings = RetrainSettings.model_validate(
        {**SETTINGS, "store": {"url": f"file:{root}/store"}, "work_dir": str(root / "work")}
    )
    store = LocalStore(root / "store")
    older = dataset_of(store, settings, root / "older", base)
    newer = dataset_of(store, settings, root / "newer", pd.concat([base, later, more]))
    weak = settings.model_copy(
        update={
            "models": settings.models.model_copy(
                update={"ss4rec": settings.models.ss4rec.model_copy(update={"max_epochs": 1, "learning_rate": 1e-6})}
            ),
            "work_dir": root / "old-work",
        }
    )
    candidates, evaluation, assembled = _trained(store, older, weak)
    staged = stage_challenger(store, NAME, assembled)
    first = publish(store, staged, None, candidates[-1], evaluation, weak)
    ModelRegistry(store).promote(NAME, first.version, expected=0, reason="the first", now=datetime.now(UTC))
    return World(store, settings, older, newer, *_trained(store, newer, settings), first)


def copy_world(world: World, root: Path) -> World:
    """Copy the world to another folder."""
    source = world.store.folder.parent
    shutil.copytree(source, root)

    def moved(path: str) -> str:
        return str(root / Path(path).relative_to(source))

    store = LocalStore(root / "store")
    settings = world.settings.model_copy(
        update={
            "store": world.settings.store.model_copy(update={"url": f"file:{root}/store"}),
            "work_dir": Path(moved(str(world.settings.work_dir))),
        }
    )
    older, newer = (replace(ref, uri=store.uri(ref.prefix)) for ref in (world.older, world.newer))
    return World(
        store,
        settings,
        older,
        newer,
        [replace(candidate, folder=moved(candidate.folder)) for candidate in world.candidates],
        world.evaluation,
        replace(world.assembled, path=moved(world.assembled.path)),
        replace(world.first, uri=store.uri(world.first.prefix)),
    )


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Write the file again after `change` to its content, in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def dataset_of(store: LocalStore, settings: RetrainSettings, folder: Path, frame: pd.DataFrame) -> DatasetRef:
    """Store the events as a dataset version."""
    data = settings.data.model_copy(update={"local_path": synthetic.write_csv(folder, frame)})
    source = ingest(data)
    validated = validate(source.tables, settings.validation, 2_000_000_000)
    return write_dataset(store, source.name, validated, build_features(validated.interactions), source.source_hashes)


def evaluated(
    store: LocalStore, dataset: DatasetRef, candidates: list[Candidate], settings: RetrainSettings
) -> tuple[Evaluation, VersionFolder]:
    """Evaluate the candidates, of which the last is the challenger, and assemble its version."""
    measured = evaluate(store, dataset, candidates, candidates[-1].kind, settings)
    folder = Path(candidates[-1].folder)
    return measured.evaluation, assemble_version(folder, measured, candidates, store, dataset, settings)


def _trained(
    store: LocalStore, dataset: DatasetRef, settings: RetrainSettings
) -> tuple[list[Candidate], Evaluation, VersionFolder]:
    candidates = [train_candidate(store, dataset, kind, settings) for kind in ("popularity", "ss4rec")]
    return candidates, *evaluated(store, dataset, candidates, settings)
