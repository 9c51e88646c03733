"""The engines with which the etl is compared do the same work."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.pipeline import etl
from benchmarks.pipeline.etl_peers import ENGINES, features_file
from benchmarks.report import SKIPPED
from tasks.ingest.features import FEATURE_COLUMNS
from tests import synthetic


def faulty() -> pd.DataFrame:
    frame = synthetic.interactions(120, 60, 25)
    again = frame.sample(40, random_state=1).assign(timestamp=lambda rows: rows["timestamp"] + 50)
    frame = pd.concat([frame, again], ignore_index=True)
    frame.loc[frame.index % 97 == 5, "timestamp"] = -4
    frame.loc[frame.index % 101 == 7, "rating"] = 9
    return frame


@pytest.mark.parametrize("name", ["pandas", "polars", "duckdb"])
def test_each_engine_gives_the_same_features_as_ours(name: str, tmp_path: Path) -> None:
    path = synthetic.write_csv(tmp_path / "data", faulty())
    made = {}
    for engine in ("ours", name):
        (tmp_path / engine).mkdir()
        ENGINES[engine](path, tmp_path / engine)
        made[engine] = pd.read_parquet(features_file(engine, tmp_path / engine))
    assert list(made[name].columns) == FEATURE_COLUMNS and len(made[name]) > 2800
    pd.testing.assert_frame_equal(made[name], made["ours"], check_dtype=False)
    quarantined = pd.read_parquet(tmp_path / name / "quarantine.parquet")
    assert len(quarantined) == ((faulty()["timestamp"] < 0) | (faulty()["rating"] > 5)).sum()


def test_without_an_engines_package_the_benchmark_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["etl", "--out", str(tmp_path / "etl.json")])
    with pytest.raises(SystemExit) as ended:
        etl.main()
    assert ended.value.code == SKIPPED and "there is no package pandas; install the extra `peers`" in capsys.readouterr().err
