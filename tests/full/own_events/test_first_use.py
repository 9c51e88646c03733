"""As a team that has only its events: `recsys init`, `recsys retrain -c`, `recsys serve`, and `recsys model export`, each as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests import own_events
from tests.doubles.live_prefect import migrated_database
from tests.full.own_events.serving import check_served
from tests.own_events import SHAPES

pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[3]
QUIET = {"RECSYS__TRACKING__MODE": "off", "RECSYS__REPORT__EVIDENTLY": "false", "RECSYS__MONITORING__EVIDENTLY": "false"}


def recsys(folder: Path, *arguments: str) -> str:
    """Run a command in the folder, and return what it printed."""
    environment = os.environ | QUIET | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder / "prefect")}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def count(settings: object) -> int:
    """Count the settings in a file: a section of others does not count, a mapping such as `columns` counts once."""
    data = settings["data"]  # type: ignore[index]
    return len(settings) - 1 + len(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["shop", *(pytest.param(name, marks=pytest.mark.nightly) for name in SHAPES if name != "shop")])
def test_init_and_retrain_end_with_a_promoted_version_that_is_served_and_exported_by_the_teams_ids(
    name: str, tmp_path: Path
) -> None:
    shape = SHAPES[name]()
    own_events.write(shape, tmp_path / name)
    migrated_database(tmp_path / "prefect" / "prefect.db")
    recsys(tmp_path, "init", name)
    assert count(yaml.safe_load((tmp_path / f"{name}.yaml").read_text())) <= 6
    recsys(tmp_path, "retrain", "-c", f"{name}.yaml", "--json", "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["promoted"] and summary["dataset"]["users"] == shape.events[shape.user].nunique()
    keeps = shape.data.get("repeats") == "keep"
    assert summary["dataset"]["rows"] == len(
        shape.events if keeps else shape.events.drop_duplicates([shape.user, shape.item])
    ) - (int(shape.events.assign(second=shape.seconds).duplicated([shape.user, shape.item, "second"]).sum()) if keeps else 0)
    check_served(tmp_path, shape)
    recsys(tmp_path, "model", "export", "-c", f"{name}.yaml", "--to", "out", "-k", "5", "--json", "export.json")
    exported = json.loads((tmp_path / "export.json").read_text())
    folder = Path(exported["uri"].removeprefix("file://"))
    top = pd.read_parquet(folder / "top_k" / "00000.parquet")
    assert set(top["user_id"]) == set(shape.events[shape.user]) and set(top["item_id"]) <= set(shape.events[shape.item])
    assert set(pd.read_parquet(folder / "item_vectors" / "00000.parquet")["item_id"]) <= set(shape.events[shape.item])
    assert exported["left_out"] == {} and exported["users"] == summary["dataset"]["users"]
