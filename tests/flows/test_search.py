from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any
from uuid import UUID

import optuna
import pytest
import yaml
from prefect.client.orchestration import get_client

from configs.errors import TrainingError
from configs.loading import load_settings
from configs.settings import RetrainSettings
from configs.studies import SearchSettings
from flows import search as module
from flows.etl import etl
from flows.search import search
from infra.locks import run_lock
from infra.registry import ModelRegistry
from infra.storage import open_store
from tasks.datasets import DatasetRef
from tasks.search import StudyRef
from tests.flows.cli.test_main import recsys
from tests.flows.conftest import artifact_keys
from tests.tasks.searching import SPACE

Make = Callable[..., RetrainSettings]


def searching(settings: RetrainSettings, **options: Any) -> SearchSettings:
    """Return settings of a search that takes seconds, with its dataset in the store."""
    etl(settings.data, settings.validation, settings.store)
    return SearchSettings.model_validate({**settings.model_dump(), "search": {"trials": 3, "space": SPACE, **options}})


@pytest.mark.full
def test_the_best_of_a_search_goes_through_the_gate_and_is_promoted(make_settings: Make) -> None:
    # The width of models.ss4rec is 16, outside of the space, so the best model differs from what `retrain` would train.
    settings = searching(make_settings(), storage=None, study="first")
    summary = search(settings)
    assert summary.challenge is not None and summary.challenge.promoted
    store = open_store(settings.store)
    registry = ModelRegistry(store)
    current = registry.champion(settings.model_name)
    assert current is not None and current.version == summary.challenge.version.version
    best = summary.record.best_trial
    lineage = registry.manifest(settings.model_name, current.version)["lineage"]
    assert lineage["settings"]["searched"] == {
        "study": "first",
        "record": summary.record.key,
        "dataset": f"{summary.dataset.name}/{summary.dataset.version}",
        "trials": 3,
        "best_trial": best.number,
        "valid_ndcg_at_10": best.value,
    }
    trained = lineage["settings"]["models"]["ss4rec"]
    assert {name: trained[name] for name in best.parameters} == best.parameters and trained["width"] in (4, 8)
    assert "search" not in lineage["settings"] and lineage["seed"] == settings.seed
    assert json.loads(store.get(summary.record.key))["best"] == best.number
    assert list(summary.durations_s)[:4] == ["check", "begin", "trials", "conclude"] and "gate" in summary.durations_s
    json.dumps(summary.to_dict())
    assert {"trials", "summary", "gate"} <= (keys := artifact_keys()) and "search-progress" not in keys

    with run_lock(settings.work_dir, settings.model_name):  # a search that does not enter the gate needs no run lock
        again = search(settings.model_copy(update={"search": settings.search.model_copy(update={"enter_gate": False})}))
    assert (
        again.challenge is None
        and again.record.trials == summary.record.trials
        and again.settings.models == summary.settings.models
    )
    assert len(registry.versions(settings.model_name)) == 1


@pytest.mark.full
def test_while_other_runs_have_running_trials_the_gate_is_left_to_them(make_settings: Make) -> None:
    retraining = make_settings()
    database = f"sqlite:///{retraining.work_dir}/elsewhere.db"
    settings = searching(retraining, study="shared", lost_after_s=1, storage=database)
    idle = settings.search.model_copy(update={"seconds": 1e-9, "enter_gate": False})
    with pytest.raises(Exception, match="No trial of the study shared is complete"):
        search(settings.model_copy(update={"search": idle}))
    study = optuna.load_study(study_name="shared", storage=database)
    study.ask().suggest_categorical("width", [4, 8])  # another run's trial
    summary = search(settings)
    assert summary.challenge is None and summary.record.under_way == 1
    with get_client(sync_client=True) as client:
        parameters = client.read_flow_run(UUID(summary.flow_run)).parameters
    assert parameters["settings"]["search"]["storage"] == "**********"
    assert [trial.state for trial in summary.record.trials] == ["running", "complete", "complete"]
    assert ModelRegistry(open_store(settings.store)).versions(settings.model_name) == []


@pytest.mark.full
def test_a_search_whose_worker_was_killed_goes_on_if_the_others_trained_all_trials(
    make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = module._train_trials

    def killed(dataset: DatasetRef, study: StudyRef, settings: SearchSettings) -> BrokenProcessPool:
        options = settings.search.model_copy(update={"trials": 2})
        train(dataset, study, settings.model_copy(update={"search": options}))
        return BrokenProcessPool()

    monkeypatch.setattr(module, "_train_trials", killed)
    settings = searching(make_settings(), study="killed", enter_gate=False)
    with pytest.raises(TrainingError, match=r"killed was killed, probably .* To resume, run the search again"):
        search(settings)
    enough = settings.model_copy(update={"search": settings.search.model_copy(update={"trials": 2})})
    assert search(enough).record.ended == 2


@pytest.mark.full
def test_the_command_prints_settings_that_retrain_accepts(
    make_settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings()
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(json.loads(settings.model_dump_json(exclude_defaults=True))))
    (tmp_path / "search.yaml").write_text(yaml.safe_dump({"search": {"trials": 3, "space": SPACE, "enter_gate": False}}))
    files = ["-c", str(tmp_path / "run.yaml"), "-c", str(tmp_path / "search.yaml")]
    assert recsys("study", "search", *files) == 1
    assert "has no dataset version of ml-100k" in capsys.readouterr().err
    assert recsys("etl", "-c", str(tmp_path / "run.yaml")) == 0
    capsys.readouterr()
    assert recsys("study", "search", *files, "--json", str(tmp_path / "out.json")) == 0
    out = capsys.readouterr().out
    assert "3 trials of movie-ranker-ml-100k-" in out and "The best settings have not entered the gate." in out
    assert "The trials were trained with search.seed 90; a training with these settings uses seed 7" in out
    (tmp_path / "best.yaml").write_text(out[out.index("models:") : out.index("The best settings have not")])
    best = load_settings(RetrainSettings, [str(tmp_path / "run.yaml"), str(tmp_path / "best.yaml")])
    summary = json.loads((tmp_path / "out.json").read_text())
    assert best == RetrainSettings.model_validate(summary["settings"])
    assert summary["record"]["best"] == summary["settings"]["searched"]["best_trial"] and summary["challenge"] is None
    assert recsys("study", "search", *files, "--set", "search.space.widht={choices: [4]}") == 1
    assert "search.space.widht is not a setting of SS4Rec; did you mean width?" in capsys.readouterr().err
