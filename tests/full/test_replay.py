"""A whole replay of a tiny dataset: undisturbed, killed and resumed, and with a planted shift."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from infra.storage.local import LocalStore
from tests import synthetic
from tests.doubles.live_prefect import migrated_database
from tests.flows.conftest import LEAN

pytestmark = pytest.mark.full

DAY_S = 86_400
POLICIES = {"never": {}, "volume": {"volume": 0.2}}


def write_settings(folder: Path, **settings: Any) -> Path:
    """Write the settings of a replay of six days after a base of ten."""
    frame = synthetic.interactions(80, 40, 25)
    late = synthetic.START + 10 * DAY_S + (frame["timestamp"] - synthetic.START) % (6 * DAY_S)
    early = synthetic.START + (frame["timestamp"] - synthetic.START) % (10 * DAY_S)
    frame["timestamp"] = early.where(frame["user_id"] <= 45, late)
    path = synthetic.write_csv(folder / "data", frame)
    content = {
        **LEAN,
        "id": "tiny",
        "data": {"local_path": str(path)},
        "store": {"url": f"file:{folder}/store"},
        "work_dir": str(folder / "work"),
        "slices": "day",
        "base_slices": 10,
        "most_slices": 3,
        "policies": POLICIES,
        "drift": {"min_rows": 50, "resamples": 400},
        "live_requests": 60,
        "resamples": 400,
        **settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "replay.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "replay.yaml"


def start(settings: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "study",
        "replay",
        "-c",
        str(settings),
        "--json",
        str(settings.with_name("found.json")),
    ]
    environment = {**os.environ, "PREFECT_HOME": str(settings.with_name("prefect"))}
    environment.pop("PREFECT_API_URL", None)
    if not settings.with_name("prefect").exists():
        migrated_database(settings.with_name("prefect") / "prefect.db")
    with settings.with_name("log.txt").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def ended(settings: Path) -> dict[str, Any]:
    assert start(settings).wait(timeout=1800) == 0, settings.with_name("log.txt").read_text()
    found: dict[str, Any] = json.loads(settings.with_name("found.json").read_text())
    return found


def killed_when(settings: Path, key: str) -> None:
    """Run until the replay's store has an object `key`, then kill the run and its server."""
    process, path = start(settings), settings.with_name("store") / "replays" / "tiny" / key
    while not path.exists():
        assert process.poll() is None, settings.with_name("log.txt").read_text()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def records(settings: Path) -> dict[str, Any]:
    """Return what the replay stored, without the names and times of versions."""
    store = LocalStore(settings.with_name("store") / "replays" / "tiny")
    found: dict[str, Any] = {}
    for key in store.list("replay/"):
        if key.endswith(".parquet"):
            found[key] = pd.read_parquet(store.folder / key).to_dict("list")
        elif key.startswith(("replay/slices/", "replay/trainings/")):
            content = json.loads(store.get(key))
            for name in ("seconds", "training_s", "challenger_s", "version", "champion"):
                content.pop(name, None)
            for watch in content.get("policies", {}).values():
                watch.pop("champion")
            found[key] = content
    return found


def test_a_replay_that_is_killed_ends_like_one_that_is_not(tmp_path: Path) -> None:
    whole, killed = write_settings(tmp_path / "whole"), write_settings(tmp_path / "killed")
    found = ended(whole)
    assert [policy["name"] for policy in found["policies"]] == list(POLICIES)
    assert [part["number"] for part in found["slices"]] == [1, 2, 3]
    assert all(part["delivered"] == part["accepted"] + part["duplicates"] + part["quarantined"] for part in found["slices"])
    never, volume = found["policies"]
    assert volume["trainings"] and not never["trainings"]
    assert Path(found["page"].removeprefix("file://")).read_bytes().startswith(b"<!doctype html>")

    killed_when(killed, "replay/trainings/0000-never.json")
    killed_when(killed, f"replay/slices/{volume['trainings'][0]['slice']:04d}.json")
    # As if it had been killed between a promotion and its record: the promotion is found, and nothing is trained again.
    store = LocalStore(killed.with_name("store") / "replays" / "tiny")
    promoted = json.loads(store.get("replay/trainings/0000-never.json"))
    store.delete("replay/trainings/0000-never.json")
    entries = list(store.list("promotions/replay-never/"))
    again = ended(killed)
    assert json.loads(store.get("replay/trainings/0000-never.json"))["version"] == promoted["version"]
    assert list(store.list("promotions/replay-never/")) == entries
    assert records(killed) == records(whole)
    assert [policy["ndcg"] for policy in again["policies"]] == [policy["ndcg"] for policy in found["policies"]]


@pytest.mark.nightly  # tests/tasks/monitoring shows by day that monitoring notices it
def test_a_feed_that_changes_to_milliseconds_is_noticed_in_its_first_slice(tmp_path: Path) -> None:
    scenario = {"name": "milliseconds", "from_slice": 1}
    settings = write_settings(tmp_path, scenario=scenario, most_slices=2, policies={"on-drift": {"on_drift": True}})
    found = ended(settings)
    last, policy = found["slices"][-1], found["policies"][0]
    assert last["quarantined"] == last["delivered"] > 0 and last["requests"] == 0
    assert "quarantine" in policy["drifts"]["1"]
    assert not policy["trainings"]  # nothing is new to train on
    assert "finds milliseconds" in Path(found["page"].removeprefix("file://")).read_text()


@pytest.mark.nightly
def test_a_policy_begins_warm_and_is_from_scratch_when_it_is_its_turn(tmp_path: Path) -> None:
    policies: dict[str, Any] = {"scratch": {"volume": 0.05}, "warm": {"volume": 0.05, "warm_start": True, "full_every": 2}}
    gate = {"rule": "non-inferior", "margin": 0.9, "training_noise": 0.0, "anchor_days": 0, "slice_limit": 1.0, "baselines": []}
    settings = write_settings(tmp_path, policies=policies, promotion={**LEAN["promotion"], **gate})
    scratch, warm = ended(settings)["policies"]
    assert [each["warm"] for each in scratch["trainings"]] == [False, False]
    assert [each["warm"] for each in warm["trainings"]] == [True, False], "the base was from scratch, so each second one is"
    cold, first = scratch["trainings"][0], warm["trainings"][0]
    assert 0 < first["learnt"] < cold["learnt"] and first["dataset"] == cold["dataset"]
    assert warm["trainings"][1]["learnt"] == scratch["trainings"][1]["learnt"], "they share the training from scratch"
