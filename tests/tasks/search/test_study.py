from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from configs.errors import AlreadyExistsError, SettingsError, TrainingError
from configs.kinds import registry
from configs.studies import SearchSettings
from models.evaluation import Split
from models.recommender import EpochReport
from tasks.search import TrialRecord, best_settings, conclude_study, open_study, run_trials, search_progress
from tasks.search import workers as search
from tests.models.test_search import Untouchable
from tests.tasks.searching import SPACE, make_search

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def study_of(settings: SearchSettings, name: str = "s") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{settings.work_dir}/searches.db")


def changed(settings: SearchSettings, **options: Any) -> SearchSettings:
    return settings.model_copy(update={"search": settings.search.model_copy(update=options)})


@pytest.mark.full
def test_a_search_begins_with_the_settings_as_they_are_and_records_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, dataset, settings = make_search(tmp_path)
    read = search.read_split

    def hidden(*arguments: Any) -> Split:
        return dataclasses.replace(read(*arguments), test=Untouchable())

    monkeypatch.setattr(search, "read_split", hidden)
    ref = open_study(dataset, settings)
    told: list[TrialRecord] = []
    assert (
        ref.begun,
        ref.starts_with_base,
        run_trials(store, dataset, ref, settings, on_trial=lambda one, all_: told.append(one)),
    ) == (0, True, 3)
    record = conclude_study(store, dataset, ref, settings, NOW)
    assert record.trials == told and [trial.number for trial in told] == [0, 1, 2] and record.under_way == 0
    assert record.trials[0].parameters == {"width": 8, "dropout": 0.4, "learning_rate": 0.003}
    best = record.best_trial
    assert best.value == max(trial.value or 0 for trial in record.trials) and best.epochs == 2
    assert json.loads(store.get("searches/s/20260101T000000000000Z.json")) == json.loads(json.dumps(record.to_dict()))
    with pytest.raises(AlreadyExistsError):
        conclude_study(store, dataset, ref, settings, NOW)
    chosen = best_settings(record, settings)
    assert chosen.models.ss4rec.width == best.parameters["width"] and chosen.searched is not None
    assert (chosen.searched.trials, chosen.searched.record, chosen.searched.best_trial) == (3, record.key, best.number)


@pytest.mark.full
def test_a_search_goes_on_where_it_stopped_and_one_seed_gives_the_same_trials(tmp_path: Path) -> None:
    found = []
    for folder in ("one", "two"):
        store, dataset, settings = make_search(tmp_path / folder)
        assert run_trials(store, dataset, open_study(dataset, settings), settings) == 3
        found.append([(t.params, t.intermediate_values) for t in study_of(settings).trials])
    assert found[0] == found[1]
    ref = open_study(dataset, settings)
    assert ref.begun == 3 and run_trials(store, dataset, ref, settings) == 0
    more = changed(settings, trials=5)
    assert run_trials(store, dataset, open_study(dataset, more), more) == 2
    params = [str(trial.params) for trial in study_of(settings).trials]
    assert len(set(params)) == 5, "a resumed run drew what the first run had drawn"
    timeless = changed(settings, trials=9, seconds=1e-9)
    assert run_trials(store, dataset, open_study(dataset, timeless), timeless) == 0


def test_trials_that_cannot_be_compared_are_not_added_to_a_study(tmp_path: Path) -> None:
    _, dataset, settings = make_search(tmp_path)
    open_study(dataset, settings)
    other = make_search(tmp_path, seed=1)[1]
    with pytest.raises(SettingsError, match=rf"the study s: its dataset is small/{dataset.version}, but this run's is small/"):
        open_study(other, settings)
    longer = settings.models.model_copy(update={"ss4rec": settings.models.ss4rec.model_copy(update={"max_epochs": 9})})
    with pytest.raises(SettingsError, match=r"its models\.ss4rec\.max_epochs is 2, but this run's is 9"):
        open_study(dataset, settings.model_copy(update={"models": longer}))
    with pytest.raises(SettingsError, match="its seed is 90, but this run's is 1"):
        open_study(dataset, changed(settings, seed=1))
    with pytest.raises(SettingsError, match=r"its space\.dropout is .*, but this run's is None"):
        open_study(dataset, changed(settings, space={**settings.search.space, "dropout": None}))
    more = changed(settings, trials=50, seconds=1.0, workers=2, pruning=None)
    assert open_study(dataset, more).name == "s"
    together = settings.models.model_copy(update={"ss4rec": settings.models.ss4rec.model_copy(update={"replicas": 4})})
    assert open_study(dataset, settings.model_copy(update={"models": together})).name == "s", (
        "a trial runs in one process whatever `replicas` says"
    )
    foreign = optuna.create_study(storage=f"sqlite:///{settings.work_dir}/searches.db", study_name="foreign")
    foreign.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(SettingsError, match="was not created by a search"):
        open_study(dataset, changed(settings, study="foreign"))


def test_newer_data_begin_their_own_study(tmp_path: Path) -> None:
    _, dataset, settings = make_search(tmp_path, study=None)
    other = make_search(tmp_path, seed=1)[1]
    names = {open_study(dataset, settings).name, open_study(dataset, settings).name, open_study(other, settings).name}
    assert names == {f"movie-ranker-small-{dataset.version}", f"movie-ranker-small-{other.version}"}


def test_base_settings_outside_the_space_are_not_a_trial(tmp_path: Path) -> None:
    _, dataset, settings = make_search(tmp_path, space={"width": {"choices": [16, 32]}})
    assert not open_study(dataset, settings).starts_with_base and study_of(settings).trials == []


@pytest.mark.full
def test_a_trial_that_diverges_fails_with_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    store, dataset, settings = make_search(tmp_path, space={**SPACE, "learning_rate": {"choices": [0.003, 1e30]}}, trials=6)
    ref = open_study(dataset, settings)
    study_of(settings).enqueue_trial({"learning_rate": 1e30})
    assert run_trials(store, dataset, ref, settings) == 6
    record = conclude_study(store, dataset, ref, settings, NOW)
    failed = [trial for trial in record.trials if trial.state == "failed"]
    assert failed[0].number == 1 and "Training diverged in epoch" in str(failed[0].reason)
    assert len(record.trials) == 6 and record.best_trial.state == "complete"
    assert search_progress(record.trials, 6)[0] == 100.0


@pytest.mark.full
def test_a_trial_of_a_plugin_that_crashes_or_hangs_fails_with_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    store, dataset, base = make_search(tmp_path)
    faults = {"fault": {"choices": ["", "fit crashes", "fit hangs"]}}
    try:
        settings = SearchSettings.model_validate(
            {
                "challenger": "faulty",
                "models": {"plugins": ["tests.plugins.faulty:SPEC"]},
                "evaluation": {"k_core": 0},
                "store": {"url": f"file:{tmp_path}/store"},
                "work_dir": str(base.work_dir),
                "search": {"trials": 2, "space": faults, "study": "s"},
            }
        )
        ref = open_study(dataset, settings)
        study = study_of(settings)
        study.enqueue_trial({"fault": "fit crashes"})
        assert run_trials(store, dataset, ref, settings) == 2
        study.enqueue_trial({"fault": "fit hangs"})
        impatient = settings.models.model_copy(update={"plugin_silence_s": 1})
        settings = changed(settings, trials=3).model_copy(update={"models": impatient})
        assert run_trials(store, dataset, open_study(dataset, settings), settings) == 1
        record = conclude_study(store, dataset, ref, settings, NOW)
    finally:
        registry._named.clear()
    sound, crashed, hanging = record.trials
    assert (sound.state, crashed.state, hanging.state) == ("complete", "failed", "failed") and record.best_trial == sound
    assert "that trained a trial of faulty ended with status -11" in str(crashed.reason)
    assert "a trial of faulty reported no epoch for 1 s (models.plugin_silence_s)" in str(hanging.reason)


def test_without_a_complete_trial_there_is_nothing_to_choose(tmp_path: Path) -> None:
    store, dataset, settings = make_search(tmp_path, space={**SPACE, "learning_rate": {"choices": [1e30]}}, trials=1)
    ref = open_study(dataset, settings)
    run_trials(store, dataset, ref, settings)
    with pytest.raises(TrainingError, match=r"No trial of the study s is complete.*diverged"):
        best_settings(conclude_study(store, dataset, ref, settings, NOW), settings)


@pytest.mark.full
def test_a_defect_ends_the_search_and_does_not_count(tmp_path: Path) -> None:
    store, dataset, settings = make_search(tmp_path)
    ref = open_study(dataset, settings)

    def broken(epoch: EpochReport) -> None:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        run_trials(store, dataset, ref, settings, on_epoch=broken)
    assert run_trials(store, dataset, ref, settings, worker=1) == 0, "another worker of the run went on"
    again = open_study(dataset, settings)
    assert (again.begun, again.defects) == (1, 1) and run_trials(store, dataset, again, settings) == 3
    record = conclude_study(store, dataset, again, settings, NOW)
    assert [t.state for t in record.trials] == ["failed", "complete", "complete", "complete"]
    assert record.trials[0].reason == "ZeroDivisionError('a defect')"


@pytest.mark.full
def test_a_worker_killed_before_its_first_sign_of_life_leaves_no_trial_under_way(tmp_path: Path) -> None:
    store, dataset, settings = make_search(tmp_path, lost_after_s=1, trials=2)
    ref = open_study(dataset, settings)
    study_of(settings).ask()  # and is never heard of again
    assert run_trials(store, dataset, ref, settings) == 2
    assert [t.state.name for t in study_of(settings).trials] == ["FAIL", "COMPLETE", "COMPLETE"]


@pytest.mark.full
def test_a_worker_drops_a_trial_that_was_given_to_another(tmp_path: Path) -> None:
    store, dataset, settings = make_search(tmp_path)
    ref = open_study(dataset, settings)
    taken = []

    def slept(epoch: EpochReport) -> None:
        if not taken:
            taken.append(study_of(settings).tell(0, state=optuna.trial.TrialState.FAIL))

    assert run_trials(store, dataset, ref, settings, on_epoch=slept) == 4
    assert [t.state.name for t in study_of(settings).trials] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_workers_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configs.cores.available_cores", lambda: 9)
    before, given = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    for workers in (1, 2, 20):
        store, dataset, settings = make_search(tmp_path / str(workers), workers=workers, seconds=1e-9)
        run_trials(store, dataset, open_study(dataset, settings), settings)
    assert given == [8, 4, 1] and torch.get_num_threads() == before
