"""A model without a state is served from the events of the log, with the scores of its own full pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.kinds import spec_of
from configs.serving import CHAMPION, BatchSettings, StateSettings
from models.kinds import recommender_class
from models.recommender import Recommender, Requests
from serving.engine import Answer, Engine, EventJob, HistoryEvent, Models, NewEvent, RecommendJob, RequestTime, ServedModel
from serving.experiments import Assignment
from serving.reranking import Rules
from serving.state import LocalStates, key_of
from tasks.evaluation.catalogue import write_catalogue
from tasks.evaluation.load_check import SAMPLE_FILE, sample_requests
from tests import synthetic
from tests.examples import use_examples
from tests.serving.versions import START
from tests.tasks.stored import small_split

STATE = StateSettings(events=50)
SETTINGS: dict[str, dict[str, Any]] = {"my_sasrec": {"width": 8, "max_length": 6, "max_epochs": 2}, "my_itemknn": {}}


def version(folder: Path, kind: str) -> tuple[Recommender, ServedModel]:
    """Train a model of an example plugin, and load it as a server does."""
    use_examples()
    parts, spec = small_split(), spec_of(kind)
    model: Recommender = recommender_class(spec)(spec.settings(**SETTINGS[kind]))
    model.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=True)
    model.save(folder)
    (folder / SAMPLE_FILE).write_text(json.dumps(sample_requests(model, parts.test, count=5, seed=0)))
    items = synthetic.movies(pd.DataFrame({"item_id": parts.catalogue})).assign(
        year=pd.array([1999] * len(parts.catalogue), "Int64")
    )
    write_catalogue(folder, parts.catalogue, items, parts.train)
    return model, loaded(folder)


def loaded(folder: Path) -> ServedModel:
    return ServedModel.load(folder, "v1", 1, STATE.events)


@pytest.fixture(scope="module", params=["my_sasrec", "my_itemknn"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recommender, ServedModel, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    return *version(folder, request.param), folder


def worker(store: LocalStates, model: ServedModel) -> Engine:
    engine = Engine(store, BatchSettings(cache_s=0), Rules)
    engine.models = Models(model, {})
    return engine


def asked(user: int, now: int, history: tuple[HistoryEvent, ...] = ()) -> RecommendJob:
    return RecommendJob(Assignment(CHAMPION), 100, RequestTime.of(None, now), user=user, history=history)


def full_pass(model: Recommender, user: int, events: list[tuple[int, int]], now: int) -> dict[int, float]:
    """Return the scores of the items that the user has not seen, from the model's own pass over all events."""
    items = np.array([item for item, _ in events], np.int64)
    requests = Requests(
        user_ids=np.array([user]),
        offsets=np.array([0, len(events)]),
        item_ids=items,
        timestamps=np.array([time for _, time in events], np.int64),
        request_times=np.array([now]),
        targets=np.array([0]),
    )
    scores = model.scores(requests)[0].tolist()
    return {int(item): score for item, score in zip(model.catalogue, scores, strict=True) if item not in items}


def check(answer: Any, expected: dict[int, float]) -> None:
    assert isinstance(answer, Answer), answer
    found = {item.item_id: item.score for item in answer.items}
    assert found.keys() == expected.keys()
    assert max((abs(found[item] - expected[item]) for item in found), default=0.0) < 1e-4


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(98, 142), st.integers(0, 9)), min_size=1, max_size=25))
@settings(max_examples=25)
def test_event_by_event_in_any_order_and_by_any_worker_the_answer_is_that_of_the_full_pass(
    served: tuple[Recommender, ServedModel, Path], events: list[tuple[int, int, int]]
) -> None:
    """Users 1 to 3 have events in drawn order, some with items that the model does not know."""
    model, version, _ = served
    store, known = LocalStates(STATE), set(model.catalogue.tolist())
    workers = [worker(store, version), worker(store, version)]
    logs: dict[int, list[tuple[int, int]]] = {1: [], 2: [], 3: []}
    for number, (user, item, minute) in enumerate(events):
        at = START + 60 * minute
        event = NewEvent(user, item, at, key_of(f"{number}", item, at))
        workers[number % 2].process([EventJob((event,), {user: Assignment(CHAMPION)})])
        logs[user] = sorted([*logs[user], (item, at)], key=lambda each: each[1])
    answers = workers[len(events) % 2].process([asked(user, START + 9999) for user in logs])
    for (user, own), answer in zip(logs.items(), answers, strict=True):
        if any(item in known for item, _ in own):
            check(answer, full_pass(model, user, own, START + 9999))
            assert answer.source == "state"  # type: ignore[union-attr]
        else:
            assert answer.source == "cold"  # type: ignore[union-attr]
    assert all(not stored.state for stored in store.read(list(logs), "v1")), "there is no state to store"


def test_a_version_loaded_again_gives_the_same_answers_and_its_stored_samples(
    served: tuple[Recommender, ServedModel, Path],
) -> None:
    model, version, folder = served
    again = loaded(folder)
    assert again.check_samples(folder) == 5 and version.model.kind == model.name
    history = tuple(HistoryEvent(int(item), START + place) for place, item in enumerate(model.catalogue[:9]))
    (answer,) = worker(LocalStates(STATE), again).process([asked(1, START + 99, history)])
    check(answer, full_pass(model, 1, [(event.item, event.time or 0) for event in history], START + 99))
    assert answer.source == "history"  # type: ignore[union-attr]
