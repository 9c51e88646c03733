"""Our network in RecBole's Trainer and Evaluator, on a slice of the real ML-100K."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, SS4RecSettings
from models.evaluation import Split, metrics, rank_requests, split
from models.recbole_bridge import SS4RecForRecBole
from models.recbole_bridge.ncf import recbole_config
from models.ss4rec import SS4Rec, SS4RecNetwork

LENGTH = 12
SETTINGS: dict[str, Any] = {
    "MAX_ITEM_LIST_LENGTH": LENGTH,
    "train_batch_size": 64,
    "epochs": 2,
    "learning_rate": 3e-3,
    "metrics": ["Hit", "NDCG", "MRR"],
    "topk": [5, 10, 20],
    "valid_metric": "NDCG@10",
    "metric_decimal_place": 17,
    "width": 16,
    "time_state": 4,
    "relation_state": 4,
    "dropout": 0.1,
    "embedding_dropout": 0.1,
}


@pytest.fixture(scope="module")
def events(ml_100k: pd.DataFrame) -> pd.DataFrame:
    """Events of 80 users. Their times begin at 0 and have steps of 2 s, which float32 holds exactly."""
    some = ml_100k[ml_100k["user_id"] <= 80]
    some = some[some.groupby("user_id").cumcount() < 60]
    return some.assign(timestamp=(some["timestamp"] - some["timestamp"].min()) // 2)


@pytest.fixture(scope="module")
def parts(events: pd.DataFrame) -> Split:
    return split(events, EvaluationSettings(protocol="loo-recbole", k_core=0))


@contextmanager
def in_recbole(events: pd.DataFrame, **settings: Any) -> Iterator[tuple[SS4RecForRecBole, Trainer, Any, list[Any]]]:
    """Yield our untrained model, RecBole's Trainer for it, its dataset, and its three loaders."""
    with recbole_config(events, SS4RecForRecBole, SETTINGS | settings) as config:
        dataset = create_dataset(config)
        loaders = list(data_preparation(config, dataset))
        torch.manual_seed(1)
        model = SS4RecForRecBole(config, loaders[0]._dataset)
        yield model, Trainer(config, model), dataset, loaders


@pytest.mark.full
def test_ss4rec_trains_in_recbole_and_ranks_there_as_it_does_behind_our_port(
    events: pd.DataFrame, parts: Split, tmp_path: Path
) -> None:
    with in_recbole(events) as (model, trainer, dataset, (train, valid, test)):
        trainer.fit(train, valid, verbose=False, saved=False)
        assert trainer.train_loss_dict[1] < 0.98 * trainer.train_loss_dict[0]
        judged = trainer.evaluate(test, load_best_model=False)
        model.eval()
        batches = [batch for batch, *_ in test]
        with torch.no_grad():
            theirs = torch.cat([model.full_sort_predict(batch) for batch in batches])
            single = torch.cat([model.predict(batch) for batch in batches])
        users = np.concatenate([dataset.id2token("user_id", batch["user_id"].numpy()) for batch in batches]).astype(np.int64)
        targets = torch.cat([batch["item_id"] for batch in batches])
        item_of = dataset.field2id_token["item_id"][1:].astype(np.int64)
    assert model.settings == SS4RecSettings(
        **{name: value for name, value in SETTINGS.items() if name in SS4RecSettings.model_fields},
        max_length=LENGTH,
        device="cpu",
        weight_decay=0.0,
    )

    # RecBole numbers items as it meets them, but we number them by their ids, so the embedding's rows are put in our order.
    state = model.network.state_dict()
    state["items.weight"] = state["items.weight"][np.append(0, np.argsort(item_of) + 1)]
    network = SS4RecNetwork(len(item_of), model.settings)
    network.load_state_dict(state)
    ours = behind_our_port(network, model.settings, parts, tmp_path)
    scores = ours.scores(parts.test)
    order = np.argsort(users)
    assert users[order].tolist() == parts.test.user_ids.tolist()
    theirs, single, targets = theirs[order], single[order], targets[order]
    assert torch.allclose(theirs.gather(1, targets[:, None])[:, 0], single, atol=1e-5)
    assert (theirs[:, 1:][:, np.argsort(item_of)] - scores).abs().max() <= 1e-5
    assert scores.std() > 1e-2

    ranking = rank_requests(ours, parts.test, parts.catalogue, mask_seen=False, batch_size=64)
    found = metrics(ranking.ranks, (5, 10, 20))
    for name, value in found.items():
        assert abs(value - judged[name.replace("hr", "hit")]) <= 1e-6, name
    assert found["ndcg@20"] > 0

    model.network.load_state_dict(network.state_dict())  # and back


def test_a_checkpoint_that_recbole_saved_is_read_again(events: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_recbole(events, epochs=1) as (model, trainer, _, (train, valid, test)):
        trainer.fit(train, valid, verbose=False, saved=True)
        wanted = trainer.evaluate(test, load_best_model=False)
        weights = {name: weight.clone() for name, weight in model.state_dict().items()}
        for weight in model.parameters():
            weight.data.zero_()
        assert trainer.evaluate(test) == wanted, "the best model was not loaded"
        trainer.resume_checkpoint(trainer.saved_model_file)
        assert trainer.start_epoch == 1

        ray = ModuleType("ray")
        monkeypatch.setattr(ray, "tune", ModuleType("ray.tune"), raising=False)
        for name, module in (("ray", ray), ("ray.tune", ray.tune)):  # quick_start imports it, and uses it for searches only
            monkeypatch.setitem(sys.modules, name, module)
        from recbole.quick_start import load_data_and_model

        config, loaded, *_ = load_data_and_model(trainer.saved_model_file)
    assert config["model"] == "SS4RecForRecBole" and isinstance(loaded, SS4RecForRecBole)
    assert all(torch.equal(weight, weights[name]) for name, weight in loaded.state_dict().items())


def test_recbole_finds_the_model_by_its_name() -> None:
    assert get_model("SS4RecForRecBole") is SS4RecForRecBole


def behind_our_port(network: SS4RecNetwork, settings: SS4RecSettings, parts: Split, folder: Path) -> SS4Rec:
    model = SS4Rec(settings)
    model._take_vocabulary(parts.catalogue, parts.train)
    model._network = network
    model.save(folder)
    return SS4Rec.load(folder)


@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce"])
def test_the_sampled_losses_are_available_too(events: pd.DataFrame, loss: str) -> None:
    with in_recbole(events, loss=loss, negatives=16) as (model, _, _, (train, *_)):
        assert model.settings.loss == loss
        value = model.calculate_loss(next(iter(train)))
        value.backward()
        assert torch.isfinite(value) and all(weight.grad is not None for weight in model.parameters())


def test_meaningless_times_are_refused(events: pd.DataFrame) -> None:
    with pytest.raises(TrainingError, match="normalize_all"), in_recbole(events, normalize_all=True):
        pass
    with in_recbole(events) as (model, _, _, (train, *_)):
        batch = next(iter(train))
        batch["timestamp"] = torch.zeros_like(batch["timestamp"])
        with pytest.raises(TrainingError, match="order in eval_args to TO"):
            model.calculate_loss(batch)


def test_user_features_are_refused(events: pd.DataFrame) -> None:
    with pytest.raises(TrainingError, match="Set user_features to false"), in_recbole(events, user_features=True):
        pass


def test_negatives_drawn_by_recbole_are_refused(events: pd.DataFrame) -> None:
    drawn = {"distribution": "uniform", "sample_num": 1}
    with pytest.raises(TrainingError, match="train_neg_sample_args"), in_recbole(events, train_neg_sample_args=drawn):
        pass


def test_the_example_trains_and_judges_by_recbole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "ss4rec_in_recbole.py"))
    small = {"width": 8, "time_state": 2, "relation_state": 2, "blocks": 1, "MAX_ITEM_LIST_LENGTH": 5, "train_batch_size": 4096}
    found = example["train_and_judge"](epochs=1, user_inter_num_interval="[0,40]", state="ERROR", **small)
    assert set(found) == {"hit@10", "ndcg@10", "mrr@10"} and found["hit@10"] > 0
    assert list((tmp_path / "saved").glob("SS4RecForRecBole-*.pth"))
