"""A route is a function: it can be called with a worker and without a server."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from configs.errors import RequestInvalidError
from configs.serving import ServingSettings
from models.schema import DataSchema
from serving.api import routes
from serving.api.requests import EventIn, EventsRequest, RecommendationRequest
from serving.api.responses import Because, RecommendationResponse, RecommendedItem, recommendation_response
from serving.catalogue import ItemDescription
from serving.engine import Answer, EventResult, NewEvent, RecommendJob
from serving.engine.explanations import Explanation
from serving.engine.jobs import Recommended
from serving.experiments import Assignment
from serving.state import Outcome


class Worker:
    """Answers everything with the version v1, and records what it was asked."""

    def __init__(self, assignment: Assignment) -> None:
        self.settings, self.assignment = ServingSettings(), assignment
        self.jobs: list[RecommendJob] = []
        self.reported: list[NewEvent] = []

    def schema(self) -> DataSchema:
        return DataSchema()

    def assign(self, user: int | None, version: str | None, now: int) -> Assignment:
        return self.assignment

    async def recommend(self, job: RecommendJob) -> Answer:
        self.jobs.append(job)
        return Answer("v1", "state", "", 3, None, [])

    async def advance(self, events: list[NewEvent], now: int) -> list[EventResult]:
        self.reported += events
        return [EventResult(Outcome.TOO_OLD, known=False, version="v1") for _ in events]


def request(worker: Worker) -> Request:
    app = SimpleNamespace(state=SimpleNamespace(worker=worker))
    return Request({"type": "http", "app": app, "state": {"request_id": "r1"}})


@pytest.mark.parametrize(("version", "arm"), [("v1", "new"), ("champion", "new"), ("v9", None)])
def test_an_answer_names_the_arm_only_if_the_arms_version_answered(version: str, arm: str | None) -> None:
    worker = Worker(Assignment(version, "e", "new"))
    asked = request(worker)
    body = RecommendationRequest(user_id=4, time=1000, year_from=1990)
    response = asyncio.run(routes.recommend(body, asked))
    found: dict[str, Any] = json.loads(response.body)
    assert (found["version"], found["time"], found["arm"]) == ("v1", 1000, arm)
    assert (asked.state.version, asked.state.source) == ("v1", "state")
    job = worker.jobs[0]
    assert (job.time.at, job.time.chosen, job.filters.years, job.request_id) == (1000, True, (1990, None), "r1")


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
DESCRIBED = st.builds(
    ItemDescription,
    item_id=st.integers(0, 2**63 - 1) | st.text(min_size=1),
    title=st.text(),
    year=st.none() | st.integers(1, 9999),
    genres=st.lists(st.text()),
    attributes=st.none() | st.dictionaries(st.text(), st.none() | st.text() | NUMBERS),
)


@given(
    items=st.lists(st.tuples(DESCRIBED, NUMBERS, st.lists(st.text())), max_size=3),
    because=st.none() | st.builds(Explanation, item_id=st.integers(), title=st.text(), similarity=NUMBERS),
    user=st.none() | st.integers(0, 2**63 - 1) | st.text(min_size=1),
)
def test_an_answer_is_the_documented_response_as_json(
    items: list[tuple[ItemDescription, float, list[str]]], because: Explanation | None, user: int | str | None
) -> None:
    shown = [
        Recommended(*described, score, rules, to_json(described._asdict()).decode()[:-1], because)
        for described, score, rules in items
    ]
    answer = Answer("v1", "state", "", 3, 12, shown, cached=True)
    body = bytes(recommendation_response(answer, user, 77, Assignment("v1", "e", "new")).body)
    reason = None if because is None else Because(because.item_id, because.title, because.similarity)
    documented = RecommendationResponse(
        "v1", user, 77, "state", "", 3, cached=True, experiment="e", arm="new",
        items=[RecommendedItem(*described, score, rules, reason) for described, score, rules in items],
    )  # fmt: skip
    assert json.loads(body, object_pairs_hook=list) == json.loads(to_json(documented), object_pairs_hook=list)


def test_events_get_the_servers_time_and_one_result_each() -> None:
    worker = Worker(Assignment("champion"))
    body = EventsRequest(events=[EventIn(user_id=1, item_id=2, time=7), EventIn(user_id=1, item_id=3)])
    response = asyncio.run(routes.events(body, request(worker)))
    result = {"outcome": "too_old", "known": False, "version": "v1"}
    assert json.loads(response.body) == {"results": [result, result]}
    assert worker.reported[0].time == 7 and worker.reported[1].time > 1_700_000_000


def test_a_request_beyond_a_limit_does_not_reach_the_worker() -> None:
    worker = Worker(Assignment("champion"))
    body = RecommendationRequest(k=worker.settings.limits.k + 1)
    with pytest.raises(RequestInvalidError, match="at most 500 are allowed"):
        asyncio.run(routes.recommend(body, request(worker)))
    assert worker.jobs == []
