"""A version with an index of its items answers as the same version without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.serving import CHAMPION, BatchSettings, StateSettings
from serving.engine import Answer, Engine, EventJob, Filters, Models, NewEvent, RecommendJob, RequestTime, ServedModel
from serving.engine import served_model as module
from serving.experiments import Assignment
from serving.follower import warm
from serving.reranking import Rules
from serving.state import LocalStates, key_of
from tests.serving.versions import START, draw

USERS = range(1, 13)
NOW = START + 100_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version")
    draw(folder, 3)
    return folder


def engine_of(folder: Path) -> Engine:
    rules = Rules()
    engine = Engine(LocalStates(StateSettings()), BatchSettings(cache_s=0), lambda: rules)
    served = ServedModel.load(folder, "v1", 1, 1000)
    warm(served)
    served.check_samples(folder)
    engine.models = Models(served, {})
    rng = np.random.default_rng(1)
    for user in USERS:
        items = rng.choice(served.catalogue.item_ids, 6, replace=False).tolist()
        new = tuple(NewEvent(user, item, START + 60 * at, key_of(None, item, START + 60 * at)) for at, item in enumerate(items))
        engine.process([EventJob(new, {user: Assignment(CHAMPION)})])
    return engine


def jobs(engine: Engine) -> list[RecommendJob]:
    genre = engine.serving().catalogue.genres[0]
    filters = (Filters(), Filters(genres=(genre,)), Filters(exclude=tuple(engine.serving().catalogue.item_ids[:20].tolist())))
    made = [
        RecommendJob(Assignment(CHAMPION), k=k, time=RequestTime(NOW, NOW, False), user=user, filters=each, explain=k == 5)
        for user in USERS
        for each in filters
        for k in (5, 100)
    ]
    return [*made, replace(made[0], user=None), replace(made[0], user=99)]


def test_the_engine_answers_the_same_with_and_without_an_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = engine_of(folder)
    monkeypatch.setattr(module, "INDEXED", 1)
    indexed = engine_of(folder)
    assert plain.serving().index is None and indexed.serving().index is not None
    for job in jobs(plain):
        expected, found = plain.process([job])[0], indexed.process([job])[0]
        assert isinstance(expected, Answer) and found == expected
    together = indexed.process(jobs(indexed))  # a batch, whose answers must not depend on who else asks
    assert together == [indexed.process([job])[0] for job in jobs(indexed)]


def test_a_promoted_version_keeps_its_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INDEXED", 1)
    served = ServedModel.load(folder, "v1", 1, 1000)
    assert served.index is not None and served.promoted(2).index is served.index
