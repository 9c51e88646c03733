"""The records of a small replay that has ended, without any trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.settings import StoreSettings
from configs.studies import ReplaySettings
from models.evaluation import MISS
from tasks.replay import ReplayLog, ReplayPlan, Slice, SliceRecord, TrainingRecord
from tasks.replay.log import PolicyWatch

WEEK_S = 7 * 86_400
START = 874_281_600  # a Monday
POLICIES = {"never": {}, "monthly": {"every": "month"}, "on-drift": {"on_drift": True}}


def small_settings(folder: Path, **settings: Any) -> ReplaySettings:
    return ReplaySettings.model_validate(
        {
            "policies": POLICIES,
            "store": {"url": f"file:{folder}/store"},
            "work_dir": folder / "work",
            "resamples": 400,
            **settings,
        }
    )


def small_plan(folder: Path, slices: int = 4, name: str = "small") -> ReplayPlan:
    parts = tuple(Slice(n, START + n * WEEK_S, START + (n + 1) * WEEK_S, 100) for n in range(slices + 1))
    store = StoreSettings(url=f"file:{folder}/store/replays/small")
    return ReplayPlan("small", name, {}, parts, 60, str(folder / "work"), store, {})


def record(number: int, drifted: tuple[str, ...] = (), quarantined: int = 0, rows: int = 100) -> SliceRecord:
    watch = PolicyWatch("v1", "drifted" if drifted else "stable", list(drifted), [f"{name}: moved" for name in drifted])
    return SliceRecord(
        number=number,
        dataset=f"small/{number:012x}-abc",
        content=f"{number:012x}",
        rows=100 * (number + 1),
        delivered=rows,
        accepted=rows - quarantined,
        duplicates=0,
        quarantined=quarantined,
        policies=dict.fromkeys(POLICIES, watch) if number else {},
        seconds={"etl": 1.0},
    )


def training(policy: str, number: int, outcome: str = "promoted", why: str = "base", **fields: Any) -> TrainingRecord:
    reasons = [] if outcome == "promoted" else ["better than the champion: <b>no</b>"]
    return TrainingRecord(
        **{
            "policy": policy, "slice": number, "why": why, "dataset": f"small/{number:012x}-abc", "version": f"v{number + 1}",
            "outcome": outcome, "reasons": reasons, "champion": "v1", "holdout_ndcg_at_10": 0.1, "training_s": 30.0, "seconds": 36.0,
            **fields,
        }
    )  # fmt: skip


def ranks(seed: int, better: float = 0.6, requests: int = 300) -> pd.DataFrame:
    """Ranks for 60 users. Those of `monthly` are smaller by the factor `better`; `on-drift` ranks as `never` does."""
    rng = np.random.default_rng(seed)
    never = rng.integers(1, 60, requests)
    never[:5] = MISS
    monthly = np.where(never == MISS, 3, np.maximum(1, never * better)).astype(np.int64)
    columns = {"never": never, "monthly": monthly, "on-drift": never}
    return pd.DataFrame({"user_id": rng.integers(1, 61, requests), "target": rng.integers(1, 9, requests), **columns})


def ended(plan: ReplayPlan, *, silent: int | None = None, drifted: int | None = 3) -> ReplayLog:
    """Keep the records of a whole replay; nothing happens in the slice `silent`, and the slice `drifted` drifts."""
    log = ReplayLog.of(plan)
    for part in plan.slices:
        empty = part.number == silent
        marks = ("volume", "genre") if part.number == drifted else ()
        quarantined = 40 if part.number == drifted else 0
        kept = record(part.number, marks, quarantined, rows=0 if empty else 100)
        log.keep_slice(kept, None if empty or part.number == 0 else ranks(part.number))
    for policy in POLICIES:
        log.keep_training(training(policy, 0))
    log.keep_training(training("monthly", 2, why="a new month"))
    log.keep_training(training("on-drift", 3, "held", "drift"))
    return log
