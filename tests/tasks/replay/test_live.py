from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.settings import EvaluationSettings
from infra.registry import ModelRef
from infra.storage.local import LocalStore
from models.evaluation import MISS
from tasks.replay.live import LiveSample, rank_live, same_files
from tests import synthetic
from tests.tasks.stored import sealed, small_split

SETTINGS = EvaluationSettings(k_core=0)
SINCE = synthetic.START + 900_000


def asked(store: LocalStore, champions: dict[str, ModelRef], frame: pd.DataFrame, **options: Any) -> pd.DataFrame | None:
    given = {"last_person": 60, "limit": 10_000, "seed": 0, **options}
    return rank_live(store, champions, frame, LiveSample(SINCE, **given), SETTINGS)


def test_all_champions_are_asked_for_every_later_event_of_people(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    first, second = sealed(store, tmp_path / "a"), sealed(store, tmp_path / "b", hour=1)
    assert first.version != second.version and same_files(store, first) == same_files(store, second)
    frame = synthetic.interactions(60, 40, 25)
    strange = frame.head(1).assign(user_id=1, item_id=999, timestamp=SINCE)
    bots = frame.head(30).assign(user_id=61, timestamp=SINCE + np.arange(30))
    events = pd.concat([frame, strange, bots])
    found = asked(store, {"never": first, "other": second}, events)
    assert found is not None and list(found.columns) == ["user_id", "target", "never", "other"]
    live = events[(events["timestamp"] >= SINCE) & (events["user_id"] <= 60)]
    pairs = [sorted(zip(frame["user_id"], frame[name], strict=True)) for frame, name in ((found, "target"), (live, "item_id"))]
    assert pairs[0] == pairs[1]
    assert (found["never"] == found["other"]).all() and (found["never"] >= 1).all()
    assert found.loc[found["target"] == 999, "never"].tolist() == [MISS]


def test_the_same_requests_are_drawn_each_time_and_each_champion_ranks_them(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    first, second = sealed(store, tmp_path / "a"), sealed(store, tmp_path / "b", hour=1, parts=small_split(seed=3))
    frame = synthetic.interactions(60, 40, 25)
    few, again = (asked(store, {"never": first, "other": second}, frame, limit=20) for _ in range(2))
    assert few is not None and again is not None and len(few) == 20 and few.equals(again)
    alone, otherwise = (asked(store, {"other": second}, frame, limit=20, seed=seed) for seed in (0, 1))
    assert alone is not None and alone.equals(few.drop(columns="never")) and (few["never"] != few["other"]).any()
    assert otherwise is not None and len(otherwise) == 20 and not otherwise["target"].equals(few["target"])


def test_nobody_is_asked_if_nothing_happened(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    frame = synthetic.interactions(60, 40, 25)
    before = frame[frame["timestamp"] < SINCE]
    assert asked(store, {}, before) is None and asked(store, {}, frame, last_person=0) is None
