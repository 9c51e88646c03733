"""A store with a dataset and an SS4Rec version with drawn weights, and exports of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.settings import EtlSettings, ExportSettings, RetrainSettings
from infra.registry import Lineage, ModelRef, ModelRegistry, machine_facts
from infra.storage.local import LocalStore
from models.evaluation import split
from tasks.export import ExportSource, export_version
from tasks.export.users import ChosenUsers
from tests import synthetic
from tests.serving.versions import draw
from tests.tasks.stored import NAME
from tests.tasks.world import dataset_of

K, PIECE = 7, 16
EVENTS = synthetic.interactions(50, 60, 45)  # more events than two training windows of the model


class Made:
    """A store with a dataset and a version of SS4Rec, and where exports go."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = RetrainSettings.model_validate({"validation": {"min_rows": 100}})
        self.store, self.destination = LocalStore(root / "store"), LocalStore(root / "out")
        self.dataset = dataset_of(self.store, self.settings, root / "data", EVENTS)
        parts = split(EVENTS.assign(row=np.arange(len(EVENTS))), self.settings.evaluation)
        draw(root / "version", parts=parts, max_length=12)
        self.ref = self.sealed(root / "version", "ss4rec")
        self.engine = EtlSettings(work_dir=root / "work")
        self.at = int(EVENTS["timestamp"].max()) + 500

    def sealed(self, folder: Path, kind: str) -> ModelRef:
        registry, now = ModelRegistry(self.store), datetime.now(UTC)
        lineage = Lineage(
            kind=kind, dataset=f"{self.dataset.name}/{self.dataset.version}", protocol="loo-exact", seed=0, settings={},
            metrics={"hr@10": 0.2, "ndcg@10": 0.1}, duration_s=1.0, cost=None, **machine_facts(),
        )  # fmt: skip
        return registry.seal(registry.stage(NAME, folder, now), {"outcome": "promoted", "reasons": []}, lineage, now)

    def export(self, ref: ModelRef | None = None, users: ChosenUsers | None = None, progress: Any = None, **options: Any) -> Any:
        settings = ExportSettings(**{"k": K, "piece_users": PIECE, "at": self.at} | options)
        more = {} if progress is None else {"progress": progress}
        source = ExportSource(self.store, ref or self.ref, self.dataset)
        return export_version(source, self.destination, settings, self.engine, users=users, **more)

    def read(self, found: Any, part: str) -> pd.DataFrame:
        folder = Path(found.uri.removeprefix("file://").removeprefix("file:")) / part
        return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)

    def manifest(self, found: Any) -> dict[str, Any]:
        folder = f"{found.model_name}/{Path(found.uri).name}"
        loaded: dict[str, Any] = json.loads(self.destination.get(f"{folder}/manifest.json"))
        return loaded
