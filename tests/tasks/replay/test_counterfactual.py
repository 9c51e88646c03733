from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tasks.datasets import Quarantine
from tasks.replay import counterfactual
from tasks.replay.counterfactual import drifting_without_shift
from tasks.replay.feed import Slice
from tests import synthetic
from tests.tasks.replayed import small_plan, small_settings


def test_the_same_slice_is_judged_without_the_shift_for_each_champion_that_alarmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = synthetic.interactions(60, 40, 20)
    cut = int(frame["timestamp"].quantile(0.8))
    end = int(frame["timestamp"].quantile(0.9))
    frame["rating"] = frame["rating"].astype(float)
    bad = frame.index[frame["timestamp"].between(cut, end - 1)][:7]
    frame.loc[bad, "rating"] = 99.0
    source = {"local_path": str(synthetic.write_csv(tmp_path / "raw", frame))}
    asked: list[tuple[Any, ...]] = []

    def judged(*arguments: Any) -> SimpleNamespace:
        asked.append(arguments)
        return SimpleNamespace(drifted=["hour"])

    monkeypatch.setattr(counterfactual, "judge_slice", judged)
    settings = small_settings(
        tmp_path,
        scenario={"name": "rating-scale", "from_slice": 2},
        data=source,
        validation={"min_rows": 10, "max_quarantined_share": 0.9},
    )
    found: Any = {
        "never": SimpleNamespace(champion="v1", verdict="drifted"),
        "monthly": SimpleNamespace(champion="v1", verdict="drifted"),
        "on-drift": SimpleNamespace(champion="v2", verdict="stable"),
    }
    champions: Any = {"never": "one", "monthly": "one", "on-drift": "two"}
    part = Slice(2, cut, end, 100)
    assert drifting_without_shift(small_plan(tmp_path), part, champions, found, settings) == {"v1": ["hour"]}
    (call,) = asked
    features: pd.DataFrame = call[2].features
    rows = int(frame["timestamp"].between(cut, end - 1).sum())
    assert call[1] == "one" and call[3] == (cut, end) and call[4] == Quarantine(rows, 7)
    assert (
        features["timestamp"].max() < end and features["rating"].max() <= 5 and (features["timestamp"] >= cut).sum() == rows - 7
    )
    assert drifting_without_shift(small_plan(tmp_path), Slice(1, cut, end, 100), champions, found, settings) == {}
    assert len(asked) == 1, "before the shift, there is nothing to tell apart"
