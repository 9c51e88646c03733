"""Small SS4Rec versions with random weights in a store, as serving finds them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from configs.serving import ServingSettings
from configs.settings import SS4RecSettings
from infra.registry import Lineage, ModelRef, ModelRegistry, machine_facts
from infra.storage.local import LocalStore
from models.evaluation import Split
from models.recommender import Requests
from models.ss4rec import SS4Rec
from serving.engine import ServedModel
from tasks.evaluation.catalogue import write_catalogue
from tasks.evaluation.load_check import SAMPLE_FILE, sample_requests
from tests import synthetic
from tests.plain_ss4rec import PLAIN
from tests.tasks.stored import small_split

NAME = "ranker"
TINY: dict[str, Any] = PLAIN | {
    "width": 16, "blocks": 1, "time_state": 4, "relation_state": 4, "max_length": 20, "interval": "log1p", "device": "cpu",
}  # fmt: skip
START = 1_700_000_000


@dataclass(frozen=True)
class Served:
    """A version as it was trained, and as it is served."""

    trained: SS4Rec
    served: ServedModel
    folder: Path


def draw(folder: Path, seed: int = 0, parts: Split | None = None, **options: Any) -> SS4Rec:
    """Write a version's files to `folder`. Its random weights are large, so that every term matters."""
    parts = parts or small_split()
    model = SS4Rec(SS4RecSettings(**TINY | options))
    model._take_vocabulary(parts.catalogue, parts.train)
    torch.manual_seed(seed)
    model._network = model._untrained().eval()
    with torch.no_grad():
        model._network.items.weight.add_(torch.randn_like(model._network.items.weight) * 0.5)
        model._network.items.weight[0] = 0
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)
    (folder / SAMPLE_FILE).write_text(json.dumps(sample_requests(model, parts.test, count=5, seed=0)))
    items = synthetic.movies(pd.DataFrame({"item_id": parts.catalogue}))
    items["year"] = pd.array(1970 + np.arange(len(items)), dtype="Int64")
    write_catalogue(folder, parts.catalogue, items, parts.train)
    return model


def served(folder: Path, seed: int = 0, most_events: int = 1000, **options: Any) -> Served:
    trained = draw(folder, seed, **options)
    return Served(trained, ServedModel.load(folder, f"v{seed}", 1, most_events), folder)


def publish(store: LocalStore, folder: Path) -> ModelRef:
    """Register the files of `folder`."""
    registry = ModelRegistry(store)
    lineage = Lineage(
        kind="ss4rec",
        dataset="small/abc",
        protocol="loo-exact",
        seed=0,
        settings={},
        metrics={"hr@10": 0.2, "ndcg@10": 0.1},
        duration_s=1.0,
        cost=None,
        **machine_facts(),
    )
    now = datetime.now(UTC)
    return registry.seal(registry.stage(NAME, folder, now), {"outcome": "promoted", "reasons": []}, lineage, now)


def promote_version(store: LocalStore, version: str, kind: Any = "promote") -> None:
    registry = ModelRegistry(store)
    current = registry.champion(NAME)
    expected = current.number if current else 0
    registry.promote(NAME, version, expected=expected, kind=kind, reason="test", now=datetime.now(UTC))


def settings_of(root: Path, **options: Any) -> ServingSettings:
    base: dict[str, Any] = {
        "model_name": NAME,
        "store": {"url": f"file:{root}/store"},
        "work_dir": str(root / "served"),
        "outcomes": {"folder": str(root / "outcomes")},
        "poll_s": 0.1,
        "log_requests": False,
    }
    return ServingSettings.model_validate(base | options)


def wait_until_served(client: Any, count: int = 1) -> None:
    """Wait until a server has loaded its versions, which takes long on a busy machine."""
    until = time.monotonic() + 600
    while len(client.get("/v1/models").json()["served"]) < count:
        assert time.monotonic() < until, client.get("/v1/models").text
        time.sleep(0.05)


def full_pass(model: SS4Rec, items: list[int], times: list[int], now: int, user: int = 0) -> np.ndarray:
    """(n_items,) scores of the trained network's own pass over the whole history, however long."""
    limit = model._settings
    model._settings = limit.model_copy(update={"max_length": max(limit.max_length, len(items), 2)})
    request = Requests(
        user_ids=np.array([user]),
        offsets=np.array([0, len(items)]),
        item_ids=np.array(items, np.int64),
        timestamps=np.array(times, np.int64),
        request_times=np.array([now]),
        targets=np.array([0]),
    )
    try:
        return model.scores(request)[0].numpy()
    finally:
        model._settings = limit
