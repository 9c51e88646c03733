"""Monitoring decides in production as the replay's policies decide on the same stream."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.settings import DueSettings, PolicySettings, StoreSettings
from configs.studies import ReplaySettings
from infra.registry import Lineage, ModelRegistry
from tasks.datasets import DatasetRef
from tasks.monitoring import LIVE, DriftResult
from tasks.monitoring.checks import Check
from tasks.replay import ReplayLog, ReplayPlan, Slice, SliceRecord, TrainingRecord, trainings_due
from tasks.replay.log import PolicyWatch
from tasks.retraining import Answer, Look, decay_of, decide, facts_of, position_of
from tests.tasks.landed import Place, random_events
from tests.tasks.stored import NOW, stage_popularity

DAY_S = 86_400
START = 946_684_800
SLICES = 9
NAME = "ranker"


def watched(draw: np.random.Generator) -> DriftResult:
    """What monitoring may find: drift that training helps with or not, and a loss of live quality that chance explains or not."""
    live = Check(LIVE, "loss", effect=float(draw.uniform(0, 0.3)), bound=0.5, adjusted_p=float(draw.choice([0.001, 0.4])))
    moved = Check(
        "rating", "distance", effect=1.0, bound=0.1, adjusted_p=0.001, verdict="drifted", retrains=bool(draw.integers(2))
    )
    checks = [live, *([moved] if draw.integers(2) else [])]
    verdict: Any = "drifted" if len(checks) > 1 else "stable"
    return DriftResult(verdict, [], 100, 10, 0, 1, 100, 10, 0.0, 0.01, checks, model_name=NAME)


def train(place: Place, folder: Path, dataset: DatasetRef, at: int) -> None:
    """Seal a held version, as a retraining in production leaves it at that time."""
    made = Lineage(
        "popularity", f"{dataset.name}/{dataset.version}", "loo-exact", 0, {}, {"ndcg@10": 0.1}, 1.0, None, None, "3", {}, {}
    )
    staged = stage_popularity(place.store, folder, hour=(at - int(NOW.timestamp())) // 3600)
    decision = {"outcome": "held", "reasons": []}
    ModelRegistry(place.store).seal(staged, decision, made, datetime.fromtimestamp(at, UTC))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "policy",
    [
        PolicySettings(on_drift=True, least_days=6),
        PolicySettings(volume=0.3, decay=0.2),
        PolicySettings(every="month", most_days=9.5),
        PolicySettings(every="week", volume=1.0, least_days=2.5),
    ],
    ids=["drift", "volume or decay", "month or age", "week or volume"],
)
def test_production_and_replay_retrain_after_the_same_slices(seed: int, policy: PolicySettings, tmp_path: Path) -> None:
    draw = np.random.default_rng(seed)
    place = Place(tmp_path)
    ends = START + np.cumsum(draw.integers(1, 12, SLICES + 1)) * DAY_S
    slices = tuple(
        Slice(number, int(ends[number - 1]) if number else START, int(ends[number]), 1) for number in range(SLICES + 1)
    )
    plan = ReplayPlan("id", "shop", {}, slices, 10**6, str(tmp_path), StoreSettings(url=f"file:{tmp_path}/replay"), {})
    settings, log = ReplaySettings.model_validate({"policies": {"p": policy.model_dump()}}), ReplayLog.of(plan)

    def training(number: int, why: str, dataset: DatasetRef) -> None:
        log.keep_training(
            TrainingRecord("p", number, why, f"{dataset.name}/{dataset.version}", "v", "held", [], None, 0.1, 1.0, 1.0)
        )
        train(place, tmp_path / str(number), dataset, slices[number].end)

    found: list[str | None] = []
    for part in slices[:-1]:
        if part.number == 0 or draw.integers(4):  # now and then, nothing arrives
            more = random_events(seed * 100 + part.number, int(draw.integers(20, 90)), users=40, movies=30)
            times = np.linspace(part.start, part.end - 1, len(more)).astype(int)
            place.put(f"{part.number}.csv", more.assign(timestamp=times), modified=part.end - 1)
        dataset = place.land(now=part.end + DAY_S).dataset
        drift = replace(watched(draw), dataset=f"{dataset.name}/{dataset.version}")
        watch = PolicyWatch("c", drift.verdict, drift.drifted, [], drift.causes, decay_of(drift))
        watches = {"p": watch} if part.number else {}
        content = dataset.version.partition("-")[0]
        record = SliceRecord(part.number, drift.dataset, content, dataset.rows, 1, 1, 0, 0, watches, {})
        log.keep_slice(record, None)
        due = trainings_due(plan, part, record, settings).get("p")
        if part.number:
            look = Look.at_dataset(dataset, "wall", part.end)
            answer: Answer = decide(
                DueSettings(policy=policy), position_of(place.store, NAME, look), facts_of(dataset, look, drift), model_name=NAME,
                dataset=drift.dataset,
            )  # fmt: skip
            assert (answer.retrain, answer.cause) == (due is not None, due), part
            found.append(due)
        if due is not None:
            training(part.number, due, dataset)
    assert len(found) == SLICES - 1
