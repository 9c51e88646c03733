"""RecBole's own models under our protocol, on a slice of the real ML-100K."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from recbole.data import create_dataset, data_preparation

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, PopularitySettings
from models.evaluation import Split, metrics, rank_requests, split
from models.popularity import Popularity
from models.recbole_bridge import RecBoleModel, RecBoleSettings
from models.recbole_bridge.ncf import recbole_config
from models.recbole_bridge.network import build, interaction
from models.recommender import EpochReport, Requests

LENGTH = 12
MODELS = ["GRU4Rec", "SASRec", "BPR", "LightGCN", "ItemKNN"]
SMALL: dict[str, dict[str, Any]] = {"GRU4Rec": {"hidden_size": 32}, "SASRec": {"hidden_size": 32, "inner_size": 32}}


@pytest.fixture(scope="module")
def events(ml_100k: pd.DataFrame) -> pd.DataFrame:
    """Events of 80 users. Their times begin at 0 and have steps of 2 s, which float32 holds exactly."""
    some = ml_100k[ml_100k["user_id"] <= 80]
    some = some[some.groupby("user_id").cumcount() < 60]
    return some.assign(timestamp=(some["timestamp"] - some["timestamp"].min()) // 2)


@pytest.fixture(scope="module")
def parts(events: pd.DataFrame) -> Split:
    return split(events, EvaluationSettings(protocol="loo-recbole", k_core=0))


def made(name: str, **settings: Any) -> RecBoleModel:
    given = {"max_length": LENGTH, "batch_size": 64, "learning_rate": 3e-3, "max_epochs": 3, "device": "cpu"} | settings
    return RecBoleModel(RecBoleSettings(model=name, options=SMALL.get(name, {}), **given))


def fit(model: RecBoleModel, parts: Split, **more: Any) -> Any:
    return model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=not model.sequential, **more)


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest, parts: Split) -> tuple[RecBoleModel, Any]:
    model = made(request.param)
    return model, fit(model, parts)


@pytest.mark.full
def test_the_best_epoch_is_kept_and_its_valid_metric_is_that_of_our_ranking(
    trained: tuple[RecBoleModel, Any], parts: Split
) -> None:
    model, report = trained
    assert report.epochs and report.epochs[0].valid["ndcg@10"] > 0
    if len(report.epochs) > 1:
        assert report.epochs[-1].loss < report.epochs[0].loss
    ranking = rank_requests(model, parts.valid, parts.catalogue, mask_seen=not model.sequential, batch_size=64)
    best = report.epochs[report.best_epoch - 1].valid["ndcg@10"]
    assert best == max(epoch.valid["ndcg@10"] for epoch in report.epochs)
    assert abs(metrics(ranking.ranks, (10,))["ndcg@10"] - best) < 1e-9


def test_scores_are_those_of_recboles_full_sort_predict_on_recboles_own_batches(
    trained: tuple[RecBoleModel, Any], events: pd.DataFrame, parts: Split
) -> None:
    """RecBole splits the same events itself; only its numbers of users and items are put in ours."""
    model, _ = trained
    settings = {"MAX_ITEM_LIST_LENGTH": LENGTH, "eval_batch_size": 10**6}
    if not model.sequential:
        settings["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}  # type: ignore[assignment]  # fmt: skip
    with recbole_config(events, model._settings.model, settings) as config:
        dataset = create_dataset(config)
        batches = list(data_preparation(config, dataset)[2])
        batch = batches[0][0]
        raw = {name: dataset.field2id_token[name] for name in ("user_id", "item_id")}
    item_of = np.array([0, *(model._columns[np.searchsorted(model.catalogue, int(token))] for token in raw["item_id"][1:])])
    user_of = np.array([0, *(np.flatnonzero(model._tokens == int(token))[0] + 1 for token in raw["user_id"][1:])])
    asked = {"user_id": torch.from_numpy(user_of[batch["user_id"].numpy()])}
    if model.sequential:
        asked |= {"item_id_list": torch.from_numpy(item_of[batch["item_id_list"].numpy()]), "item_length": batch["item_length"]}
    with torch.no_grad():
        theirs = model.network.eval().full_sort_predict(interaction(asked)).view(len(asked["user_id"]), -1)  # type: ignore[operator]
    users = raw["user_id"][batch["user_id"].numpy()].astype(np.int64)
    order = np.argsort(users)
    assert users[order].tolist() == parts.test.user_ids.tolist()
    ours = model.scores(parts.test)
    assert (theirs[order][:, model._columns].float() - ours).abs().max() < 1e-6 and ours.std() > 0


def test_a_model_is_loaded_from_safetensors_json_and_parquet_with_the_same_scores(
    trained: tuple[RecBoleModel, Any], parts: Split, tmp_path: Path
) -> None:
    model, _ = trained
    model.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json", ".parquet"}
    needs_events = model._settings.model in ("LightGCN", "ItemKNN")
    assert (tmp_path / "events.parquet").exists() == needs_events
    assert torch.equal(RecBoleModel.load(tmp_path).scores(parts.test), model.scores(parts.test))


def test_a_server_keeps_its_folder_arguments_gpus_and_log_while_it_loads_a_version(
    trained: tuple[RecBoleModel, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads open files by relative names meanwhile."""
    model, _ = trained
    model.save(tmp_path / "version")
    (tmp_path / "server").mkdir()
    monkeypatch.chdir(tmp_path / "server")
    monkeypatch.setattr(sys, "argv", ["server", "--embedding_size=7"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    seen, loaded = [], threading.Event()

    def look() -> tuple[str, int, str, list[logging.Handler]]:
        return os.getcwd(), id(sys.argv), os.environ["CUDA_VISIBLE_DEVICES"], list(logging.getLogger().handlers)

    def watch() -> None:
        while not loaded.wait(0.0005):
            seen.append(look())

    before, watching = look(), threading.Thread(target=watch)
    watching.start()
    RecBoleModel.load(tmp_path / "version")
    loaded.set()
    watching.join()
    assert seen and all(each == before for each in seen) and list(Path().iterdir()) == []


def test_who_is_unknown_to_a_model_gets_the_popular_items(trained: tuple[RecBoleModel, Any], parts: Split) -> None:
    model, _ = trained
    popularity = Popularity(PopularitySettings())
    popularity.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    nobody = Requests(
        np.array([-3]), np.array([0, 1]), np.array([-5]), np.array([0]), request_times=np.array([1]), targets=np.array([1])
    )
    assert torch.equal(model.scores(nobody)[0].argsort(stable=True), popularity.scores(nobody)[0].argsort(stable=True))


@pytest.mark.parametrize("name", ["GRU4Rec", "BPR"])
def test_recbole_learns_all_of_the_train_part_and_nothing_else(name: str, parts: Split) -> None:
    model = made(name, max_epochs=1)
    fit(model, parts)
    built = build(model._events, name, model._options(1), parts.catalogue, 1)
    rows = built.loader._dataset.inter_feat
    items, users = np.append(0, built.items), np.append(0, built.users)
    spans = list(zip(parts.train.user_ids, parts.train.offsets[:-1], parts.train.offsets[1:], strict=True))
    events = parts.train.item_ids.tolist()
    learnt = zip(users[rows["user_id"].numpy()].tolist(), items[rows["item_id"].numpy()].tolist(), strict=True)
    if name == "BPR":
        assert sorted(learnt) == sorted((user, item) for user, first, end in spans for item in events[first:end])
        return
    histories = [items[row[:n].numpy()].tolist() for row, n in zip(rows["item_id_list"], rows["item_length"], strict=True)]
    assert sorted((user, history, item) for (user, item), history in zip(learnt, histories, strict=True)) == sorted(
        (user, events[max(first, at - LENGTH) : at], events[at]) for user, first, end in spans for at in range(first + 1, end)
    )


@pytest.mark.full
@pytest.mark.parametrize("name", ["SASRec", "BPR"])
def test_a_killed_training_goes_on_and_ends_with_the_same_model(name: str, parts: Split, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(report: EpochReport) -> None:
        if report.epoch == 2:
            raise Killed

    whole, resumed = made(name), made(name)
    fit(whole, parts, checkpoint_dir=tmp_path / "other")
    with pytest.raises(Killed):
        fit(made(name), parts, checkpoint_dir=tmp_path / "own", on_epoch=kill)
    report = fit(resumed, parts, checkpoint_dir=tmp_path / "own")
    assert report.resumed_from == 2 and torch.equal(resumed.scores(parts.test), whole.scores(parts.test))


def test_training_leaves_the_working_folder_and_the_random_numbers_alone(
    parts: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.random.seed(5)
    torch.manual_seed(5)
    before, folders = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()), []  # type: ignore[index,union-attr]
    fit(made("BPR", max_epochs=1), parts, checkpoint_dir=Path("kept"), on_epoch=lambda report: folders.append(os.getcwd()))
    assert folders == [str(tmp_path)] and [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index,union-attr]


def test_a_training_that_diverges_is_refused(parts: Split) -> None:
    with pytest.raises(TrainingError, match=r"SASRec.*(diverged|not finite)"):
        fit(made("SASRec", learning_rate=1e30), parts)


def test_events_with_different_weights_are_refused(parts: Split) -> None:
    weights = np.ones(len(parts.train.item_ids), np.float32)
    fit(made("ItemKNN"), replace(parts, train=replace(parts.train, weights=weights)))
    weights[0] = 2
    with pytest.raises(TrainingError, match=r"different weights\. Remove recbole"):
        fit(made("ItemKNN"), replace(parts, train=replace(parts.train, weights=weights)))


def test_a_model_that_these_events_do_not_suit_is_refused_with_its_name(parts: Split) -> None:
    with pytest.raises(TrainingError, match=r"RecBole's SASRec cannot be trained on these events with these settings.*hidden"):
        model = RecBoleModel(RecBoleSettings(model="SASRec", options={"hidden_size": 33, "n_heads": 2}, device="cpu"))
        fit(model, parts)


@pytest.mark.parametrize("name", ["DIN", "KGAT", "FM", "gru5rec"])
def test_models_that_need_other_data_or_do_not_exist_are_refused_with_those_that_work(name: str) -> None:
    with pytest.raises(ValidationError, match=r"not one of RecBole's models.*BERT4Rec.*BPR.*LightGCN"):
        RecBoleSettings(model=name)


def test_a_name_may_be_written_in_lower_case() -> None:
    assert RecBoleSettings(model="lightgcn").model == "LightGCN" and RecBoleSettings(model="gru4rec").sequential


@pytest.mark.parametrize(("option", "setting"), [("epochs", "models.recbole.max_epochs"), ("seed", "seed"), ("gpu_id", "device")])
def test_an_option_that_has_a_setting_of_ours_is_refused_with_that_setting(option: str, setting: str) -> None:
    with pytest.raises(ValidationError, match=f"the option {option} belongs to this project: use the setting .*{setting}"):
        RecBoleSettings(options={option: 1})
