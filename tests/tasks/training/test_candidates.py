"""A candidate trained from a stored dataset version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, ModelSettings, RetrainSettings, SS4RecSettings, ValidationSettings
from infra.registry import file_digests
from infra.storage.local import LocalStore
from models.loading import load_recommender
from models.recommender import EpochReport, TeacherEpoch
from tasks.datasets import DatasetRef, write_dataset
from tasks.evaluation.load_check import SAMPLE_FILE, check_loaded, sample_requests
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tasks.stages.training import EpochsTrained, epoch_line
from tasks.training import Candidate, read_split, train_candidate
from tests import synthetic

LAX = ValidationSettings(min_rows=1)


def stored(store: LocalStore, users: pd.DataFrame | None) -> DatasetRef:
    validated = validate(RawTables(synthetic.interactions(30, 30, 15), None, users, ()), LAX, 1_700_000_000)
    return write_dataset(store, "small", validated, build_features(validated.interactions), {})


def trained(store: LocalStore, dataset: DatasetRef, folder: Path, **changes: Any) -> tuple[Candidate, RetrainSettings]:
    small = SS4RecSettings(width=8, blocks=1, time_state=4, relation_state=4, max_length=10, batch_tokens=64, max_epochs=2)
    settings = RetrainSettings(
        evaluation=EvaluationSettings(k_core=0),
        models=ModelSettings(ss4rec=small.model_copy(update=changes)),
        work_dir=folder / "work",
    )
    return train_candidate(store, dataset, "ss4rec", settings), settings


def test_user_features_come_from_the_datasets_users_and_stay_with_the_model(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    ids = [str(user) for user in range(1, 31)]
    users = pd.DataFrame({"user_id": ids, "gender": ["F", "M"] * 15, "age": ["30"] * 30, "occupation": ["artist"] * 30})
    dataset = stored(store, users)
    candidate, settings = trained(store, dataset, tmp_path, user_features=True)
    folder = Path(candidate.folder)
    kept = pd.read_parquet(folder / "users.parquet")
    assert kept["gender"].tolist() == ["F", "M"] * 15 and kept["age"].unique().tolist() == ["25"]
    requests = read_split(store, dataset, settings.evaluation).test
    model = load_recommender(folder)
    (folder / SAMPLE_FILE).write_text(json.dumps(sample_requests(model, requests, count=4, seed=0)))
    check = check_loaded(folder)  # what the gate's clean process does
    assert check.ok and check.score_deviation is not None and check.score_deviation < 1e-4


def test_a_dataset_that_does_not_describe_its_users_is_refused_only_if_the_model_needs_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    dataset = stored(store, None)
    with pytest.raises(TrainingError, match=r"models\.ss4rec\.user_features to false"):
        trained(store, dataset, tmp_path, user_features=True)
    candidate, _ = trained(store, dataset, tmp_path)
    assert candidate.replicas == 1
    assert len(candidate.epochs) == 2 and not (Path(candidate.folder) / "users.parquet").exists()


def test_a_refit_trains_on_all_events_for_the_epochs_that_it_is_given_and_leaves_the_judged_model_alone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    dataset = stored(store, None)
    judged, settings = trained(store, dataset, tmp_path)
    refit = train_candidate(store, dataset, "ss4rec", settings, refit_epochs=3)
    assert (len(refit.epochs), refit.best_epoch) == (3, 3) and settings.models.ss4rec.max_epochs == 2
    assert refit.folder != judged.folder and file_digests(Path(judged.folder)) == judged.files
    events = [pd.read_parquet(Path(each.folder) / "vocabulary.parquet")["train_events"].sum() for each in (judged, refit)]
    assert events == [dataset.rows - 2 * 30, dataset.rows], "two events of each of 30 users were held out"
    assert not list((tmp_path / "work" / "checkpoints" / settings.model_name / "ss4rec").glob("*refit*"))


def test_a_training_and_a_refit_report_the_epochs_of_their_teachers_first(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    dataset = stored(store, None)
    _, settings = trained(store, dataset, tmp_path, teachers=2)
    shutil.rmtree(settings.work_dir)
    for refit_epochs, epochs in ((None, 2), (1, 1)):
        told: list[EpochReport] = []
        done = EpochsTrained()
        found = train_candidate(store, dataset, "ss4rec", settings, told.append, refit_epochs=refit_epochs)
        assert len(found.epochs) == epochs and found.epochs == told[-epochs:], "the record of a version is about the model alone"
        numbers = [(each.teacher, each.epoch) for each in told[:-epochs] if isinstance(each, TeacherEpoch)]
        assert numbers == [(teacher, epoch) for teacher in (1, 2) for epoch in range(1, epochs + 1)]
        assert [done.after(each) for each in told] == [(number, 3 * epochs) for number in range(1, 3 * epochs + 1)]
    assert epoch_line(told[0]).startswith("teacher 1 of 2: epoch 1 of at most 1: ") and epoch_line(told[-1]).startswith(
        "epoch 1 of"
    )


def test_replicas_without_a_gpu_each_are_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    dataset = stored(store, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrainingError, match=r"models\.ss4rec\.replicas is 2, and torch sees 1 GPU: "):
        trained(store, dataset, tmp_path, replicas=2)
    assert not (tmp_path / "work").exists()
