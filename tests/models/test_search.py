from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from configs.errors import TrainingError
from configs.kinds import Parameter, spec_of
from configs.settings import EvaluationSettings, SS4RecSettings
from configs.studies import Pruning
from models.evaluation import Split, split
from models.recommender import EpochReport, FitReport, Recommender, TeacherEpoch
from models.search import Train, TrialData, make_pruner, make_sampler, run_trial, suggest, train_trial
from tests import synthetic

SPEC = spec_of("ss4rec")
BASE = SS4RecSettings(width=8, blocks=1, time_state=4, relation_state=4, max_length=20, max_epochs=3, device="cpu")
SPACE_OF_TWO = {"dropout": Parameter(low=0.0, high=0.5, step=0.25), "learning_rate": Parameter(low=1e-3, high=3e-2, log=True)}


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(60, 40, 25)
    return split(frame.assign(row=range(len(frame))), EvaluationSettings(k_core=0))


def trainer(parts: Split, users: pd.DataFrame | None = None, seed: int = 0) -> Train:
    return partial(train_trial, SPEC, TrialData.of(parts, users), seed)


def search(parts: Split, trials: int = 3, seed: int = 5, **reports: Any) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=make_sampler(seed), pruner=make_pruner(None))
    train = trainer(parts, seed=seed)
    study.optimize(lambda trial: run_trial(trial, SPACE_OF_TWO, SPEC, BASE, train, **reports), n_trials=trials)
    return study


class Untouchable:
    """Test requests that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test part was asked for its {name}")

    def __len__(self) -> int:
        raise AssertionError("the test part was counted")


@pytest.mark.full
def test_a_trials_value_is_its_best_valid_epoch_and_the_test_part_is_not_looked_at(parts: Split) -> None:
    hidden = dataclasses.replace(parts, test=Untouchable())  # type: ignore[arg-type]
    epochs: list[EpochReport] = []
    trials = search(hidden, on_epoch=epochs.append).trials
    for trial in trials:
        assert trial.value == max(trial.intermediate_values.values()) and list(trial.intermediate_values) == [1, 2, 3]
    assert [trial.value for trial in trials] == [trial.value for trial in search(parts).trials]
    assert [epoch.valid["ndcg@10"] for epoch in epochs] == [v for t in trials for v in t.intermediate_values.values()]
    with pytest.raises(AssertionError, match="test part"):  # looking at the test part does fail
        _ = hidden.test.targets


@pytest.mark.full
def test_a_trial_gets_the_user_features_that_the_challenger_will_get(parts: Split) -> None:
    base = BASE.model_copy(update={"user_features": True})
    ids = np.unique(parts.train.user_ids)
    users = pd.DataFrame(
        {
            "user_id": ids,
            "gender": pd.array(np.where(ids % 2, "F", "M"), dtype="string"),
            "age": pd.array(ids + 10, dtype="Int64"),
            "occupation": pd.array(["work"] * len(ids), dtype="string"),
        }
    )
    told, blank = (
        run_trial(optuna.create_study(sampler=make_sampler(1)).ask(), SPACE_OF_TWO, SPEC, settings, trainer(parts, users))
        for settings in (base, BASE)
    )
    assert told != blank
    with pytest.raises(TrainingError, match="describe_users"):
        run_trial(optuna.create_study().ask(), SPACE_OF_TWO, SPEC, base, trainer(parts))


@pytest.mark.full
def test_a_seed_gives_the_same_trials_and_another_worker_or_run_gives_others(parts: Split) -> None:
    one, two = search(parts), search(parts)
    assert [(t.params, t.intermediate_values) for t in one.trials] == [(t.params, t.intermediate_values) for t in two.trials]
    drawn = []
    for worker, begun in ((0, 0), (1, 0), (0, 7), (1, 7)):
        study = optuna.create_study(sampler=make_sampler(5, worker=worker, begun=begun))
        drawn.append(suggest(study.ask(), SPACE_OF_TWO, SPEC)["learning_rate"])
    assert len(set(drawn)) == 4


@pytest.mark.full
def test_a_trial_below_the_median_ends_after_the_warm_up(parts: Split) -> None:
    space = {"learning_rate": Parameter(choices=(0.01, 1e-9))}
    study = optuna.create_study(
        direction="maximize", sampler=make_sampler(0), pruner=make_pruner(Pruning(warmup_epochs=2, interval=1, startup_trials=1))
    )
    for rate in (0.01, 1e-9):
        study.enqueue_trial({"learning_rate": rate})
    train, base = trainer(parts), BASE.model_copy(update={"max_epochs": 6, "patience": 6, "weight_averaging": 0.0})
    study.optimize(lambda trial: run_trial(trial, space, SPEC, base, train), n_trials=2)
    good, bad = study.trials
    assert good.state.name == "COMPLETE" and list(good.intermediate_values) == [1, 2, 3, 4, 5, 6]
    assert bad.state.name == "PRUNED" and list(bad.intermediate_values) == [1, 2]


def test_a_trial_is_judged_by_the_model_and_not_by_its_teachers(parts: Split) -> None:
    told: list[EpochReport] = []
    study = optuna.create_study(direction="maximize")
    base = BASE.model_copy(update={"teachers": 1, "max_epochs": 2, "patience": 2})
    run_trial(trial := study.ask(), SPACE_OF_TWO, SPEC, base, trainer(parts), told.append)
    assert [isinstance(each, TeacherEpoch) for each in told] == [True, True, False, False]
    assert list(study.trials[trial.number].intermediate_values.values()) == [each.valid["ndcg@10"] for each in told[2:]]


@pytest.mark.full
def test_a_trial_that_diverges_or_does_not_fit_is_a_training_error(parts: Split) -> None:
    train = trainer(parts)
    with pytest.raises(TrainingError, match="diverged in epoch 1"):
        run_trial(optuna.create_study().ask(), {"learning_rate": Parameter(choices=(1e30,))}, SPEC, BASE, train)

    def full(epoch: EpochReport) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError, match="do not fit into the GPU"):
        run_trial(optuna.create_study().ask(), SPACE_OF_TWO, SPEC, BASE, train, full)


def test_without_pruning_nothing_is_cut_off() -> None:
    assert isinstance(make_pruner(None), optuna.pruners.NopPruner)
    assert isinstance(make_pruner(Pruning()), optuna.pruners.MedianPruner)


@pytest.mark.parametrize(("name", "masked"), [("GRU4Rec", False), ("BPR", True)])
def test_a_trial_masks_seen_items_as_the_training_of_its_winner_does(
    name: str, masked: bool, parts: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def fit(model: Recommender, *_: Any, mask_seen: bool, **__: Any) -> FitReport:
        asked.append(mask_seen)
        return FitReport([EpochReport(1, 1, 0.0, {"ndcg@10": 0.5}, 0.0, 1)], best_epoch=1)

    monkeypatch.setattr("models.recbole_bridge.model.RecBoleModel.fit", fit)
    data, recbole = TrialData.of(dataclasses.replace(parts, id="loo-recbole")), spec_of("recbole")
    assert train_trial(recbole, data, 0, recbole.settings.model_validate({"model": name}), None) == 0.5
    assert asked == [masked]


@pytest.mark.full
def test_a_plugin_that_cannot_be_made_or_be_told_its_users_fails_the_trial(parts: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("the width is not a multiple of the heads")

    monkeypatch.setattr("models.plugins.faults.place_of", lambda kind: "toy_plugin:SPEC")
    users = pd.DataFrame({"user_id": np.unique(parts.train.user_ids)})
    for method in ("describe_users", "__init__"):
        monkeypatch.setattr(f"models.popularity.Popularity.{method}", fail)
        popularity = spec_of("popularity")
        with pytest.raises(TrainingError, match=r"toy_plugin:SPEC failed in training \(ValueError: the width"):
            train_trial(popularity, TrialData.of(parts, users), 0, popularity.settings(), None)
