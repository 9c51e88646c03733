"""A network that learns from teachers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, SS4RecSettings
from models.distillation import teachers as module
from models.evaluation import Split, split
from models.recommender import FitReport, Recommender, WarmStart
from models.ss4rec import SS4Rec
from models.training import loop
from models.transformers import HSTU
from models.transformers.settings import HSTUSettings
from tests import synthetic
from tests.plain_ss4rec import PLAIN

SMALL: dict[str, Any] = {"width": 8, "blocks": 1, "max_length": 10, "batch_tokens": 80, "max_epochs": 3, "device": "cpu"}


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(30, 30, 15)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def ss4rec(**changes: Any) -> SS4Rec:
    return SS4Rec(SS4RecSettings(**PLAIN | SMALL | {"time_state": 4, "relation_state": 4} | changes))


def hstu(**changes: Any) -> HSTU:
    return HSTU(HSTUSettings(**SMALL | changes))


def fit(model: Recommender, parts: Split, folder: Path | None = None, seed: int = 1) -> FitReport:
    return model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=True, checkpoint_dir=folder)


@pytest.mark.parametrize("kind", [ss4rec, hstu])
def test_a_network_with_teachers_learns_something_else_and_one_seed_gives_the_same_again(kind: Any, parts: Split) -> None:
    found = []
    for teachers in (0, 2, 2):
        model = kind(teachers=teachers, student_dropout=1.0)
        fit(model, parts)
        found.append(model.scores(parts.test))
    assert not torch.allclose(found[0], found[1]) and torch.equal(found[1], found[2])


def test_a_network_that_only_imitates_its_teacher_comes_closer_to_it_than_one_that_learns_alone(parts: Split) -> None:
    teacher, alone = ss4rec(max_epochs=20, patience=20), ss4rec(max_epochs=20, patience=20)
    pupil = ss4rec(max_epochs=20, patience=20, teachers=1, teacher_share=1.0, student_dropout=0.0)
    fit(teacher, parts, seed=1 + module.SEEDS_APART)
    fit(alone, parts)
    fit(pupil, parts)
    chances = [torch.softmax(model.scores(parts.test), -1) for model in (teacher, alone, pupil)]
    from_alone, from_pupil = ((chances[0] - other).abs().sum(-1).mean() for other in chances[1:])
    assert from_pupil < 0.7 * from_alone


@pytest.mark.parametrize("kind", [ss4rec, hstu])
def test_a_run_that_is_resumed_does_not_train_its_teachers_again(
    kind: Any, parts: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, again = kind(teachers=2), kind(teachers=2)
    fit(whole, parts, tmp_path / "one")
    run, ran = loop._run_epoch, []

    def stopped(*arguments: Any, **options: Any) -> Any:
        ran.append(arguments)
        if len(ran) == 8:  # the second epoch of the network itself
            raise KeyboardInterrupt
        return run(*arguments, **options)

    monkeypatch.setattr(loop, "_run_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit(kind(teachers=2), parts, tmp_path / "two")
    with caplog.at_level(logging.INFO):
        report = fit(again, parts, tmp_path / "two")
    assert len(ran) == 8 + 2 and report.resumed_from == 1
    assert torch.equal(whole.scores(parts.test), again.scores(parts.test))
    assert [line.split(":")[0] for line in caplog.messages] == ["Teacher 1 of 2 is trained", "Teacher 2 of 2 is trained"]


def test_a_teacher_that_learnt_nothing_stops_the_training(parts: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ss4rec(teachers=1)
    monkeypatch.setattr(SS4Rec, "_teacher", lambda _: Collapsed())
    with pytest.raises(TrainingError, match=r"Teacher 1 of 1 has learnt nothing .* It ranks by popularity\.$"):
        fit(model, parts)


class Collapsed:
    def fit(self, *_: Any, **__: Any) -> FitReport:
        return FitReport(collapsed="It ranks by popularity.")

    def predict(self, batch: Any, /) -> Any:
        raise AssertionError


@pytest.mark.parametrize("kind", [ss4rec, hstu])
def test_a_stored_network_is_served_as_it_was_trained_and_never_begins_from_a_parent(
    kind: Any, parts: Split, tmp_path: Path
) -> None:
    model = kind(teachers=1)
    fit(model, parts)
    model.save(tmp_path)
    loaded = type(model).load(tmp_path)
    assert torch.equal(loaded.scores(parts.test), model.scores(parts.test)) and loaded.settings()["teachers"] == 1
    assert not model.begin_with(WarmStart(loaded, np.arange(5)))


def test_the_seconds_of_the_teachers_count(parts: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.SoftTargets, "__call__", lambda *_: torch.zeros(()))
    taught, alone = ss4rec(teachers=1), FitReport()
    original = SS4Rec.fit

    def slow(self: SS4Rec, *arguments: Any, **options: Any) -> FitReport:
        nonlocal alone
        report = original(self, *arguments, **options)
        if not self.settings()["teachers"]:
            report = alone = FitReport(report.epochs, report.best_epoch, seconds=1000.0)
        return report

    monkeypatch.setattr(SS4Rec, "fit", slow)
    assert 1000.0 < fit(taught, parts).seconds < 2000.0 and alone.seconds == 1000.0


def test_teachers_and_item_attributes_are_refused_together() -> None:
    with pytest.raises(ValidationError, match="teachers and item_attributes cannot be used together"):
        SS4RecSettings(teachers=1, item_attributes=True)


def test_a_loss_over_sampled_negatives_has_no_teachers(parts: Split) -> None:
    found = []
    for teachers in (0, 1):
        model = hstu(teachers=teachers, loss="sampled_softmax", negatives=8)
        fit(model, parts)
        found.append(model.scores(parts.test))
    assert torch.equal(found[0], found[1])
