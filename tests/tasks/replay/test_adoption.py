"""A policy of a replay becomes the settings of an environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from configs.errors import NotFoundError
from configs.settings import StoreSettings
from configs.studies import ReplaySettings
from infra.prefect_server import EnvironmentSettings
from infra.storage import open_store
from tasks.replay import ReplayLog, ReplayPlan, Slice, adopted_policy
from tests.flows.cli.test_main import recsys


@pytest.fixture
def store(tmp_path: Path) -> StoreSettings:
    """Return a store with the plan of one replay."""
    settings = ReplaySettings.model_validate(
        {
            "policies": {
                "never": {},
                "careful": {"on_drift": True, "volume": 0.25, "refit": True, "warm_start": True, "full_every": 4},
            }
        }
    )
    own = StoreSettings(url=f"file:{tmp_path}/store/replays/last-year")
    plan = ReplayPlan("last-year", "shop", {}, (Slice(0, 0, 1, 1),), 9, str(tmp_path), own, settings.model_dump(mode="json"))
    ReplayLog.of(plan).begin(plan)
    return StoreSettings(url=f"file:{tmp_path}/store")


def test_the_file_is_one_that_setup_reads_and_decides_as_the_replay_did(
    store: StoreSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--set", f"store.url={store.url}"]
    assert recsys("study", "adopt", "last-year", "careful", "--to", str(tmp_path / "policy.yaml"), *place) == 0
    assert "takes the policy over" in capsys.readouterr().out
    found = EnvironmentSettings.model_validate(yaml.safe_load((tmp_path / "policy.yaml").read_text()))
    policy = found.retraining.when.policy
    assert policy == adopted_policy(store, "last-year", "careful").policy and policy is not None
    assert (policy.on_drift, policy.volume, policy.every) == (True, 0.25, None)
    training = found.retraining.training
    assert (training.refit, training.warm_start, training.full_every) == (True, True, 4), "it trains and serves as in the replay"
    assert recsys("study", "adopt", "last-year", "never", *place) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"retraining": {"when": {"policy": {}}}}


def test_what_the_policy_was_worth_is_said_beside_the_best_one(store: StoreSettings) -> None:
    figures = [
        {"name": "never", "ndcg": {"mean": 0.1, "low": 0.09, "high": 0.11}, "trainings": []},
        {"name": "careful", "ndcg": {"mean": 0.12, "low": 0.11, "high": 0.13}, "trainings": [1, 2]},
    ]
    report = json.dumps({"source": "shop", "policies": figures}).encode()
    open_store(store).put("replays/last-year/replay/report.json", report)
    assert adopted_policy(store, "last-year", "careful").worth == (
        "In the replay of shop, careful had a live NDCG@10 of 0.1200 (0.1100 to 0.1300) with 2 trainings. No policy had more."
    )
    assert adopted_policy(store, "last-year", "never").worth.endswith("careful had 0.1200 with 2.")


def test_what_does_not_exist_is_said_with_what_does(store: StoreSettings, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"has no replay this-year\. It has last-year\.$"):
        adopted_policy(store, "this-year", "careful")
    with pytest.raises(NotFoundError, match=r"has no policy weekly\. It has never, careful\.$"):
        adopted_policy(store, "last-year", "weekly")
    with pytest.raises(NotFoundError, match="It has none yet"):
        adopted_policy(StoreSettings(url=f"file:{tmp_path}/empty"), "this-year", "careful")
