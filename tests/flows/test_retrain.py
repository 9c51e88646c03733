"""The whole story on a real Prefect server, with real models on small data."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from configs.errors import (
    ChampionMissingError,
    DataRefusedError,
    GateError,
    RecsysError,
    RunInProgressError,
    SourceError,
    StoreUnavailableError,
)
from configs.settings import PromotionSettings, RetrainSettings
from flows.etl import etl
from flows.monitor import monitor
from flows.promote import promote
from flows.retrain import retrain
from flows.rollback import rollback
from flows.train import train
from infra.locks import run_lock
from infra.registry import ModelRegistry, fetch_files
from infra.storage import open_store
from tasks.evaluation import check_version
from tasks.gate import promote_version
from tasks.monitoring import DriftResult
from tasks.outcome import Answers
from tasks.stages import data as stages
from tests import synthetic
from tests.flows.conftest import QUICK, FirstRun, artifact_keys

Make = Callable[..., RetrainSettings]


def stored(settings: RetrainSettings) -> dict[str, str]:
    store = open_store(settings.store)
    return {key: hashlib.sha256(store.get(key)).hexdigest() for key in store.list()}


def champion_of(settings: RetrainSettings) -> str:
    current = ModelRegistry(open_store(settings.store)).champion(settings.model_name)
    assert current is not None
    return current.version


def test_the_first_run_promotes_the_second_compares_and_a_rollback_returns(first_run: FirstRun, tmp_path: Path) -> None:
    settings, first = first_run.copied(tmp_path), first_run.summary
    store = open_store(settings.store)
    registry = ModelRegistry(store)
    assert first.promoted and first.decision.outcome == "promoted" and champion_of(settings) == first.version.version
    files = registry.manifest(settings.model_name, first.version.version)["files"]
    assert {"model.safetensors", "evaluation.json", "ranks.parquet", "reference_sample.parquet", "decision.json"} <= set(files)
    assert {"recsys_report.html", "schema.json", "catalogue.parquet"} <= set(files)
    assert len(list(store.list(f"histories/{first.dataset.name}/"))) == 1, "the server knows the users from the first call on"
    fetch_files(store, first.version.prefix, files, tmp_path / "copy")
    assert set(first.evaluation.metrics) == {"popularity", "ncf", "ss4rec"} and first.evaluation.protocol == "loo-exact"
    json.dumps(first.to_dict())
    record = json.loads((tmp_path / "copy" / "evaluation.json").read_text())
    assert record["value"] == json.loads(json.dumps(first.to_dict()["evaluation"]["value"]))
    assert set(record["value"]["differences"]) == {"popularity", "ncf"} and record["value"]["assumptions"]
    beyond = record["beyond_accuracy"]["ss4rec"]
    assert {"coverage@10", "gini@10", "diversity@10", "miscalibration@10"} < set(beyond)
    low, high = record["intervals"]["ss4rec"]["diversity@10"]
    assert low <= beyond["diversity@10"] <= high
    assert {
        "summary", "data", "drift", "metrics", "gate",
    } <= artifact_keys()  # fmt: skip

    before = stored(settings)
    second = retrain(settings)
    after = stored(settings)
    assert {key: after[key] for key in before} == before, "a second run overwrote something"
    assert not second.promoted and second.decision.outcome == "held" and second.decision.champion == first.version.version
    assert "better than the champion" in second.decision.reasons[0]
    assert second.evaluation.metrics == first.evaluation.metrics, "the same seed gave other metrics"
    assert second.decision.metrics["champion"] == second.decision.metrics["challenger"]
    assert [ref.outcome for ref in registry.versions(settings.model_name)] == ["promoted", "held"]
    assert second.dataset == replace(first.dataset, uri=second.dataset.uri)

    # The first decision was made before there was a champion.
    stale = promote_version(store, second.version, first.decision, settings.promotion)
    assert stale.promotion is None and stale.decision.champion == first.version.version
    repeated = promote_version(store, first.version, first.decision, settings.promotion)  # the answer to a write was lost
    assert repeated.promotion == registry.history(settings.model_name)[-1] and len(registry.history(settings.model_name)) == 1

    with pytest.raises(ChampionMissingError, match="only one champion"):
        rollback(None, "nothing before it", settings.model_name, settings.promotion, settings.store)
    with pytest.raises(GateError, match="is held"):
        promote(second.version.version, settings.model_name, "", False, settings.promotion, settings.store)
    with pytest.raises(GateError, match="needs a reason"):
        promote(second.version.version, settings.model_name, " ", True, settings.promotion, settings.store)
    hasty = settings.promotion.model_copy(update={"max_request_s": 1e-9})
    with pytest.raises(GateError, match=r"is held: .*--set promotion.max_request_s=SECONDS.*champion is unchanged"):
        promote(second.version.version, settings.model_name, "hurry", False, hasty, settings.store)
    assert champion_of(settings) == first.version.version
    forced = promote(second.version.version, settings.model_name, "seen good in a test", True, hasty, settings.store)
    assert (forced.kind, forced.number, forced.reason) == ("force", 2, "seen good in a test")
    with pytest.raises(GateError, match="is already the champion"):
        promote(second.version.version, settings.model_name, "", False, settings.promotion, settings.store)
    back = rollback(None, "it was worse", settings.model_name, settings.promotion, settings.store)
    assert back.version == first.version.version == champion_of(settings) and back.kind == "rollback"
    assert len(registry.history(settings.model_name)) == 3

    store.put(f"{second.version.prefix}/model.safetensors", b"damaged")
    with pytest.raises(RecsysError, match=r"cannot be rolled back to.*model\.safetensors differs.*champion is unchanged"):
        rollback(second.version.version, "", settings.model_name, settings.promotion, settings.store)
    assert champion_of(settings) == first.version.version


@pytest.mark.full
def test_a_better_model_on_newer_data_replaces_the_champion_and_is_served_with_its_refit(make_settings: Make) -> None:
    weak = make_settings()
    settings = weak.model_copy(
        update={
            "models": weak.models.model_copy(
                update={"ss4rec": weak.models.ss4rec.model_copy(update={"learning_rate": 1e-6, "max_epochs": 1})}
            )
        }
    )
    lax = settings.promotion.model_copy(update={"baselines": ()})
    first = retrain(settings.model_copy(update={"promotion": lax}))
    assert first.promoted
    newer = pd.concat(
        [
            synthetic.interactions(80, 40, 25),
            synthetic.interactions(30, 40, 25, seed=9).assign(user_id=lambda f: f["user_id"] + 500),
        ]
    )
    strong = make_settings(newer)
    more = strong.models.ss4rec.model_copy(
        update={"max_epochs": 10, "dropout": 0.1, "embedding_dropout": 0.0, "learning_rate": 0.01}
    )
    refit = strong.training.model_copy(update={"refit": True})
    second = retrain(strong.model_copy(update={"models": strong.models.model_copy(update={"ss4rec": more}), "training": refit}))
    assert second.promoted and second.decision.champion == first.version.version
    assert second.dataset.version != first.dataset.version
    assert second.decision.metrics["challenger"]["ndcg@10"] > second.decision.metrics["champion"]["ndcg@10"]
    assert champion_of(strong) == second.version.version
    files = ModelRegistry(open_store(strong.store)).manifest(strong.model_name, second.version.version)["files"]
    assert "recsys_report.html" not in files, "the settings want no page"
    made = second.decision.refit
    assert first.decision.refit is None and made is not None and made.served, made
    assert 0 < made.events <= second.dataset.rows and second.durations_s["refit"] > 0
    assert files["serving/model.safetensors"] != files["model.safetensors"] and "serving/sample_requests.json" in files
    assert check_version(open_store(strong.store), second.version, strong.promotion).ok, (
        "what is served loads and answers as stored"
    )


@pytest.mark.full
def test_a_version_trained_by_hand_waits_for_promote(make_settings: Make) -> None:
    settings = make_settings()
    with pytest.raises(RecsysError, match="no dataset version of ml-100k"):
        train(settings)
    dataset = etl(settings.data, settings.validation, settings.store)
    drift = monitor(None, settings.model_name, settings.data, settings.drift, settings.store)
    assert isinstance(drift, DriftResult) and drift.rows > 0
    version = train(settings, f"{dataset.name}/{dataset.version}")
    store = open_store(settings.store)
    assert version.outcome == "not judged" and ModelRegistry(store).champion(settings.model_name) is None
    manual = settings.promotion.model_copy(update={"approval": "manual"})
    entry = promote(version.version, settings.model_name, "", False, manual, settings.store)
    assert entry.version == version.version == champion_of(settings)
    kept = [key.rpartition(".")[2] for key in store.list(f"decisions/{settings.model_name}/{version.version}/")]
    assert kept == ["html", "json"]


@pytest.mark.full
def test_a_version_is_judged_later_by_the_gate_of_its_own_training(make_settings: Make) -> None:
    strict = {**QUICK["promotion"], "floors": {"hr_at_10": 0.99, "ndcg_at_10": 0.001}}
    settings = make_settings(promotion=strict)
    version = retrain(settings).version.version
    assert ModelRegistry(open_store(settings.store)).champion(settings.model_name) is None
    with pytest.raises(GateError, match=r"is held: hr@10 is .*; the floor is 0\.9900"):
        promote(version, settings.model_name, store=settings.store)
    looser = PromotionSettings.model_validate({"floors": {"hr_at_10": 0.01}})
    assert promote(version, settings.model_name, promotion=looser, store=settings.store).version == version
    decisions = [
        json.loads(open_store(settings.store).get(key))["settings"]
        for key in open_store(settings.store).list(f"decisions/{settings.model_name}/{version}/")
        if key.endswith(".json")
    ]
    assert [found["floors"]["hr_at_10"] for found in decisions] == [0.99, 0.01]
    assert all(found["resamples"] == 1100 and found["floors"]["ndcg_at_10"] == 0.001 for found in decisions)


@pytest.mark.full
def test_a_run_that_was_killed_resumes_and_ends_as_if_it_had_not(make_settings: Make, first_run: FirstRun) -> None:
    settings = make_settings()
    program = (
        "import os, signal, sys; from configs.settings import RetrainSettings; from infra.storage import open_store\n"
        "from tasks.training.candidates import train_candidate\n"
        "s = RetrainSettings.model_validate_json(sys.argv[1])\n"
        "from tasks.ingest.sources import ingest; from tasks.ingest.validation import validate; from tasks.ingest.features import build_features\n"
        "from tasks.datasets import write_dataset\n"
        "src = ingest(s.data); v = validate(src.tables, s.validation, 2000000000)\n"
        "d = write_dataset(open_store(s.store), src.name, v, build_features(v.interactions), src.source_hashes)\n"
        "kill = lambda r: os.kill(os.getpid(), signal.SIGKILL) if r.epoch == 2 else None\n"
        "train_candidate(open_store(s.store), d, 'ss4rec', s, kill)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    done = subprocess.run([sys.executable, "-c", program, settings.model_dump_json()], check=False, env=environment)
    assert done.returncode == -signal.SIGKILL
    resumed = retrain(settings)
    record = json.loads(open_store(settings.store).get(f"{resumed.version.prefix}/evaluation.json"))
    assert record["training"]["ss4rec"]["resumed_from"] in (1, 2)  # the checkpoint of epoch 2 may have been half-written
    assert resumed.evaluation.metrics == first_run.summary.evaluation.metrics
    assert not (settings.work_dir / "checkpoints" / settings.model_name).exists()


def test_two_runs_at_once_are_refused(make_settings: Make) -> None:
    settings = make_settings()
    with run_lock(settings.work_dir, settings.model_name):
        with pytest.raises(RunInProgressError, match=rf"process {os.getpid()}.*model_name or work_dir"):
            retrain(settings)
        with run_lock(settings.work_dir, "another-model"):
            pass
    with run_lock(settings.work_dir, settings.model_name):
        pass


def bad_cells(column: str, value: object) -> pd.DataFrame:
    frame = synthetic.interactions(80, 40, 25).astype({column: object})
    frame.loc[: len(frame) // 4, column] = value  # type: ignore[misc]
    return frame


@pytest.mark.parametrize(
    ("frame", "error", "said"),
    [
        (lambda: bad_cells("user_id", "abc"), SourceError, "user_id of .* are text, such as abc"),
        (lambda: bad_cells("rating", 9), DataRefusedError, "rating is outside 0.5 to 5"),
        (lambda: bad_cells("timestamp", -3), DataRefusedError, "timestamp is negative"),
        (
            lambda: synthetic.interactions(80, 40, 25).assign(
                timestamp=lambda f: f["timestamp"] * np.where(f.index % 9, 1, 1000)
            ),
            DataRefusedError,
            "milliseconds",
        ),
        (
            lambda: synthetic.interactions(80, 40, 25).assign(item_id=float("nan")),
            DataRefusedError,
            "column item_id .* is empty",
        ),
        (lambda: synthetic.interactions(400, 40, 1), DataRefusedError, "5-core leaves nothing"),
        (lambda: synthetic.interactions(80, 40, 4), DataRefusedError, "5-core leaves nothing"),
        (lambda: synthetic.interactions(80, 40, 25).rename(columns={"rating": "stars"}), SourceError, "lacks the column rating"),
        (lambda: synthetic.interactions(80, 40, 25).head(0), SourceError, "only a header"),
    ],
)
def test_bad_data_stops_the_run_and_leaves_the_champion(
    frame: Callable[[], pd.DataFrame],
    error: type[Exception],
    said: str,
    first_run: FirstRun,
    tmp_path: Path,
) -> None:
    settings, summary = first_run.copied(tmp_path), first_run.summary
    names = {"user_id": "userId", "item_id": "movieId"}
    (tmp_path / "data").mkdir()
    frame().rename(columns=names).to_csv(tmp_path / "data" / "ratings.csv", index=False)
    data = settings.data.model_copy(update={"local_path": tmp_path / "data" / "ratings.csv"})
    versions = ModelRegistry(open_store(settings.store)).versions(settings.model_name)
    with pytest.raises(error, match=said):
        retrain(settings.model_copy(update={"data": data}))
    assert champion_of(settings) == summary.version.version
    assert ModelRegistry(open_store(settings.store)).versions(settings.model_name) == versions


def test_a_store_that_does_not_answer_or_refuses_stops_the_run(make_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    monkeypatch.setattr(stages.build_dataset, "retries", 0)
    settings = make_settings(store={"url": "s3://b/p", "endpoint_url": "http://127.0.0.1:9", "attempts": 1, "timeout_s": 2})
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        retrain(settings)


def test_the_age_of_the_feed_counts_until_its_events_were_read(make_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not seem older because a busy machine took three hours to read them."""
    clock, told = [1_700_000_000.0], []

    def read(*arguments: object) -> str:
        clock[0] += 3 * 3600
        return "dataset"

    def measured(dataset, name, drift, store, monitoring, span, nouns):  # type: ignore[no-untyped-def]
        told.append(span[1])
        return SimpleNamespace(result="drift")

    module = sys.modules["flows.retrain"]
    judged = SimpleNamespace(
        evaluation=None,
        decision=SimpleNamespace(outcome="held", metrics={}),
        version=SimpleNamespace(version="v"),
        champion=None,
        promoted=False,
        retraining=lambda *_: None,
    )
    for name, stage in (("etl", read), ("measure_drift", measured), ("train_and_gate", lambda *arguments: judged)):
        monkeypatch.setattr(module, name, stage)
    monkeypatch.setattr(module, "last_delivery", lambda *_: None)
    monkeypatch.setattr(module, "summarise_retraining", lambda *_: Answers("no", "yes", "nothing"))
    monkeypatch.setattr(module, "wall_clock", lambda: clock[0])
    for choice in ("wall", "events"):
        settings = make_settings(monitoring={"clock": choice})
        retrain.fn(settings)
    assert told == [1_700_000_000, None]
