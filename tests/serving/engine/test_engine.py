"""The engine's answers, compared with the trained network's own pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from configs.errors import ModelMissingError, RequestRefusedError
from configs.serving import CHAMPION, BatchSettings, StateSettings
from serving.engine import (
    Answer,
    Engine,
    EventJob,
    EventResult,
    Filters,
    HistoryEvent,
    Models,
    NewEvent,
    RecommendJob,
    RequestTime,
)
from serving.experiments import Assignment
from serving.reranking import Rules
from serving.state import LocalStates, Outcome, StateStore, key_of
from tests.serving.versions import START, Served, full_pass, served

USER = 7


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Served]:
    return [served(tmp_path_factory.mktemp("version"), seed) for seed in (1, 2)]


def engine_of(versions: list[Served], states: StateStore | None = None, **batch: Any) -> Engine:
    rules = Rules()
    states = LocalStates(StateSettings()) if states is None else states
    engine = Engine(states, BatchSettings(**{"cache_s": 0} | batch), lambda: rules)
    engine.models = Models(versions[0].served, {version.served.version: version.served for version in versions[1:]})
    return engine


def events(*given: tuple[int, int], user: int = USER, version: str = CHAMPION) -> EventJob:
    new = tuple(NewEvent(user, item, time, key_of(None, item, time)) for item, time in given)
    return EventJob(new, {user: Assignment(version)})


def asked(now: int, user: int | None = USER, version: str = CHAMPION, *, chosen: bool = False, **options: Any) -> RecommendJob:
    return RecommendJob(Assignment(version), **{"k": 5, "user": user, "time": RequestTime(now, now, chosen)} | options)


def results(found: object) -> list[EventResult]:
    assert isinstance(found, list), found
    return found


def outcomes(found: object) -> list[Outcome]:
    return [result.outcome for result in results(found)]


def answer(engine: Engine, job: RecommendJob) -> Answer:
    found = engine.process([job])[0]
    assert isinstance(found, Answer), found
    return found


def expected(version: Served, history: list[tuple[int, int]], now: int, k: int = 5) -> list[int]:
    scores = full_pass(version.trained, [item for item, _ in history], [time for _, time in history], now)
    scores[np.isin(version.trained.catalogue, [item for item, _ in history])] = -np.inf
    return version.trained.catalogue[np.argsort(-scores, kind="stable")[:k]].tolist()


def listed(found: Answer) -> list[int]:
    return [item.item_id for item in found.items]


HISTORY = [(105, START), (110, START + 60), (120, START + 4000), (101, START + 90_000)]
NOW = START + 100_000


def test_after_each_event_the_answer_equals_the_full_pass(versions: list[Served]) -> None:
    engine = engine_of(versions)
    for number, event in enumerate(HISTORY, 1):
        done = engine.process([events(event)])[0]
        assert results(done) == [EventResult(Outcome.APPLIED, known=True, version="v1")]
        found = answer(engine, asked(NOW))
        assert listed(found) == expected(versions[0], HISTORY[:number], NOW)
        assert (found.source, found.events, found.last_event, found.version) == ("state", number, event[1], "v1")


def test_a_history_in_the_request_gives_the_same_answer_as_a_stored_one(versions: list[Served]) -> None:
    engine = engine_of(versions)
    history = tuple(HistoryEvent(item, time) for item, time in reversed(HISTORY))
    found = answer(engine, asked(NOW, None, history=history))
    assert listed(found) == expected(versions[0], HISTORY, NOW) and found.source == "history"
    engine.process([events(*HISTORY[:2])])
    both = answer(engine, asked(NOW, history=history))  # two of the four are known already
    assert listed(both) == listed(found) and both.events == 4
    between = answer(engine, asked(NOW, history=(HistoryEvent(130, START + 30),)))
    assert listed(between) == expected(versions[0], [HISTORY[0], (130, START + 30), HISTORY[1]], NOW)
    assert answer(engine, asked(NOW)).events == 2  # nothing of it was kept
    untimed = answer(engine, asked(NOW, None, history=(HistoryEvent(105, None), HistoryEvent(110, None))))
    assert listed(untimed) == expected(versions[0], [(105, NOW), (110, NOW)], NOW)


def test_a_late_event_is_read_where_it_belongs(versions: list[Served]) -> None:
    engine = engine_of(versions)
    engine.process([events(HISTORY[0], HISTORY[1], HISTORY[3])])
    late = engine.process([events(HISTORY[2])])[0]
    assert outcomes(late) == [Outcome.LATE]
    assert listed(answer(engine, asked(NOW))) == expected(versions[0], HISTORY, NOW)


def test_a_batchs_requests_read_each_of_its_events_once(versions: list[Served]) -> None:
    engine = engine_of(versions)
    first, again, other, found = engine.process(
        [events(*HISTORY[:2]), events(*HISTORY), events((140, START), user=8), asked(NOW)]
    )
    assert outcomes(first) == [Outcome.APPLIED] * 2 and outcomes(other) == [Outcome.APPLIED]
    assert outcomes(again) == [Outcome.DUPLICATE] * 2 + [Outcome.APPLIED] * 2
    assert isinstance(found, Answer) and listed(found) == expected(versions[0], HISTORY, NOW)


def test_events_after_the_requests_time_are_not_read(versions: list[Served]) -> None:
    engine = engine_of(versions)
    engine.process([events(*HISTORY)])
    past = START + 5000
    found = answer(engine, asked(past, chosen=True))
    assert listed(found) == expected(versions[0], HISTORY[:3], past) and found.events == 3
    before = answer(engine, asked(START - 5, chosen=True))
    assert before.source == "cold" and before.events == 0
    history = (HistoryEvent(130, START + 10), HistoryEvent(131, START + 9000))
    assert listed(answer(engine, asked(START + 20, None, chosen=True, history=history))) == expected(
        versions[0], [(130, START + 10)], START + 20
    )


def test_each_version_keeps_its_own_states_and_answers_with_them(versions: list[Served]) -> None:
    engine = engine_of(versions)
    engine.process([events(*HISTORY)])
    champion, other, by_name = engine.process([asked(NOW), asked(NOW, version="v2"), asked(NOW, version="v1", named=True)])
    assert isinstance(champion, Answer) and isinstance(other, Answer) and isinstance(by_name, Answer)
    assert listed(champion) == listed(by_name) == expected(versions[0], HISTORY, NOW) and champion.source == "state"
    assert listed(other) == expected(versions[1], HISTORY, NOW) and (other.version, other.source) == ("v2", "rebuilt")
    assert answer(engine, asked(NOW, version="v2")).source == "state"
    answer(engine, asked(NOW, None))
    engine.models = Models(versions[1].served, {})  # promoted
    assert listed(answer(engine, asked(NOW))) == expected(versions[1], HISTORY, NOW)
    assert len(engine.cold_starts) == 0  # nothing is kept of a version that has gone


def test_the_champion_stands_in_for_an_assigned_version_that_is_not_loaded_but_not_for_a_named_one(
    versions: list[Served],
) -> None:
    engine = engine_of(versions)
    assert answer(engine, asked(NOW, version="v9")).version == "v1"
    done = engine.process([events(HISTORY[0], version="v9")])[0]
    assert [result.version for result in results(done)] == ["v1"]
    assert isinstance(engine.process([asked(NOW, version="v9", named=True)])[0], RequestRefusedError)
    engine.models = Models(None, {})
    refused = engine.process([asked(NOW), events(HISTORY[1])])
    assert [type(error) for error in refused] == [ModelMissingError] * 2


def test_filters_and_exclusions_apply_and_a_reason_is_the_most_similar_event(versions: list[Served]) -> None:
    engine = engine_of(versions)
    engine.process([events(*HISTORY)])
    filters = Filters(genres=("Comedy",), years=(1980, None), exclude=(112, 10**9))
    found = answer(engine, asked(NOW, k=100, filters=filters, explain=True))
    assert found.items and all("Comedy" in item.genres and (item.year or 0) >= 1980 for item in found.items)
    assert not {112, *[item for item, _ in HISTORY]} & set(listed(found))
    vectors, ids = versions[0].served.directions, versions[0].served.catalogue.item_ids
    seen = [item for item, _ in HISTORY]
    for item in found.items:
        cosine = vectors[np.searchsorted(ids, seen)] @ vectors[np.searchsorted(ids, item.item_id)]
        assert item.explanation is not None and item.explanation.item_id == seen[int(cosine.argmax())]
        assert item.explanation.similarity == pytest.approx(cosine.max(), abs=1e-6)
    refused = engine.process([asked(NOW, filters=Filters(genres=("Unheard of",))), asked(NOW)])
    assert isinstance(refused[0], RequestRefusedError) and isinstance(refused[1], Answer)


def test_an_unknown_user_gets_popular_films_and_those_watched_lately_first(versions: list[Served]) -> None:
    engine = engine_of(versions)
    popularity = versions[0].served.catalogue.popularity
    cold = answer(engine, asked(NOW, None))
    assert cold.source == "cold" and cold.items[0].item_id == versions[0].trained.catalogue[int(popularity.argmax())]
    unknown = engine.process([events((10**6, START), user=9)])[0]
    assert [result.known for result in results(unknown)] == [False]
    assert answer(engine, asked(NOW, 9)).source == "cold"
    for user in range(100, 140):
        engine.process([events((139, NOW - 5), user=user)])
    trending = answer(engine, asked(NOW, None))
    assert trending.items[0].item_id == 139 and trending.detail == "recent"
    assert not any(item.explanation for item in answer(engine, asked(NOW, None, explain=True)).items)
    liked = answer(engine, asked(NOW, None, likes=("Thriller",)))
    assert liked.detail == "genres" and "Thriller" in liked.items[0].genres
    model, picks = engine.onboarding(4, NOW)
    assert model is versions[0].served and len(set(picks.tolist())) == 4


def test_a_cached_answer_is_given_until_the_user_the_question_or_the_rules_change(versions: list[Served]) -> None:
    rules = [Rules()]
    engine = Engine(LocalStates(StateSettings()), BatchSettings(cache_s=3600, cache_entries=3), lambda: rules[-1])
    engine.models = Models(versions[0].served, {})
    engine.process([events(*HISTORY[:3])])
    first = answer(engine, asked(NOW))
    again = answer(engine, asked(NOW + 1))
    assert not first.cached and again.cached and again.items == first.items
    assert not answer(engine, asked(NOW, k=6)).cached
    assert not answer(engine, asked(NOW + 1, chosen=True)).cached
    engine.process([events(HISTORY[3])])
    changed = answer(engine, asked(NOW))
    assert not changed.cached and listed(changed) == expected(versions[0], HISTORY, NOW)
    rules.append(Rules())
    assert not answer(engine, asked(NOW)).cached
    assert (engine.answers.hits, engine.answers.misses) == (1, 5)
    for user in range(20, 30):
        answer(engine, asked(NOW, user))
    assert len(engine.answers) == 3


class Failing(LocalStates):
    """A store with a bug."""

    def read(self, users: Any, version: str) -> Any:
        raise ZeroDivisionError("read")

    append = read


@pytest.mark.parametrize("job", [asked(NOW), events(HISTORY[0])], ids=["request", "event"])
def test_a_bug_is_logged_and_reported_only_to_the_jobs_that_it_affects(
    versions: list[Served], job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(versions, Failing(StateSettings()))
    hit, other = engine.process([job, asked(NOW, None)])
    assert isinstance(hit, ZeroDivisionError)
    # Requests of one version are answered together.
    assert isinstance(other, ZeroDivisionError if isinstance(job, RecommendJob) else Answer)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


class FailingFor(LocalStates):
    """A store that fails for one version."""

    def __init__(self, version: str, *names: str) -> None:
        super().__init__(StateSettings())
        self.version, self.names = version, names

    def append(self, events: Any, version: str) -> Any:
        if version == self.version and "append" in self.names:
            raise ZeroDivisionError("append")
        return super().append(events, version)

    def write(self, states: Any, version: str) -> None:
        if version == self.version and "write" in self.names:
            raise ZeroDivisionError("write")
        super().write(states, version)


def test_stored_events_are_acknowledged_although_another_version_fails(versions: list[Served]) -> None:
    """A client that got an error for all would send all again, and events without an id would count twice."""
    engine = engine_of(versions, FailingFor("v2", "append"))
    new = tuple(NewEvent(user, item, NOW, key_of(None, item, None)) for user, item in ((1, 105), (2, 106), (1, 107), (2, 108)))
    assignments = {1: Assignment("v1"), 2: Assignment("v2")}
    both, only_failing = engine.process([EventJob(new, assignments), EventJob(new[1:2], assignments)])
    assert [(result.label, result.version) for result in results(both)] == [
        ("applied", "v1"), ("failed", "v2"), ("applied", "v1"), ("failed", "v2"),
    ]  # fmt: skip
    assert isinstance(only_failing, ZeroDivisionError)
    assert [engine.log_of(user)[1].count for user in (1, 2)] == [2, 0]


def test_events_are_acknowledged_although_their_state_cannot_be_advanced(
    versions: list[Served], caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(versions, FailingFor("v1", "write"))
    assert outcomes(engine.process([events(*HISTORY)])[0]) == [Outcome.APPLIED] * 4
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]
    working = engine_of(versions, engine.states.store)
    working.states.store.names = ()  # type: ignore[attr-defined]
    found = answer(working, asked(NOW))  # rebuilt from the events
    assert listed(found) == expected(versions[0], HISTORY, NOW) and found.events == 4


def test_a_very_long_history_is_read_as_its_latest_events(versions: list[Served]) -> None:
    engine = engine_of(versions)
    block = versions[0].served.block
    rng = np.random.default_rng(0)
    history = [(int(item), START + place) for place, item in enumerate(rng.choice(versions[0].trained.catalogue[:20], 10_000))]
    found = answer(engine, asked(NOW, None, history=tuple(HistoryEvent(item, time) for item, time in history)))
    read = history[-2 * block :]
    scores = full_pass(versions[0].trained, [item for item, _ in read], [time for _, time in read], NOW)
    scores[np.isin(versions[0].trained.catalogue, [item for item, _ in history])] = -np.inf
    assert listed(found) == versions[0].trained.catalogue[np.argsort(-scores, kind="stable")[:5]].tolist()


def test_answers_do_not_depend_on_who_else_is_in_the_batch(versions: list[Served]) -> None:
    engine = engine_of(versions)
    rng = np.random.default_rng(3)
    jobs: list[Callable[[], RecommendJob]] = []
    for user in range(20):
        given = [(int(item), START + 100 * place) for place, item in enumerate(rng.choice(100 + np.arange(40), user, False))]
        if given:
            engine.process([events(*given, user=user)])
        jobs.append(lambda user=user: asked(NOW, user, k=7))  # type: ignore[misc]
    together = engine.process([job() for job in jobs])
    alone = [engine.process([job()])[0] for job in jobs]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Answer) and isinstance(other, Answer) and listed(one) == listed(other)
