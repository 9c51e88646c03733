"""Answers batches of requests: loads users' states, computes one matrix product for all requests, and ranks each one.

Runs in the event loop. Versions are looked up once per batch, so one version produces a complete answer, from state to titles.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from configs.errors import RecsysError
from configs.serving import CHAMPION, BatchSettings
from models.inference import Floats
from models.pruning import UserScores
from models.schema import DataSchema
from serving.engine.answer_cache import AnswerCache, answer_key
from serving.engine.cold_start_cache import ColdStartCache
from serving.engine.explanations import explain
from serving.engine.jobs import Answer, EventJob, EventResult, NewEvent, Recommended, RecommendJob, Source
from serving.engine.served_model import Plan, ServedModel
from serving.engine.served_models import Models
from serving.engine.user_states import UserData, UserStates, seen_at
from serving.reranking import Ranking, RankRequest, Rules
from serving.state import Outcome, StateStore, UserLog

__all__ = ["Engine", "Job", "Result"]

Job = RecommendJob | EventJob
Result = Answer | list[EventResult] | Exception
Found = TypeVar("Found")
logger = logging.getLogger(__name__)
NOBODY = UserData(UserLog.read(None), None)


@dataclass(frozen=True, eq=False)
class _Row:
    """A ranking request that is being computed."""

    job: RecommendJob
    log: UserLog
    plan: Plan
    new_state: bool  # the plan produces a state of the user's own log, which is worth storing
    key: Hashable  # of the answer in the cache

    @property
    def warm(self) -> bool:
        """Whether the version knows any of the user's events."""
        return len(self.plan.items) > 0

    @property
    def source(self) -> Source:
        if not self.warm:
            return "cold"
        return "history" if self.job.history else "rebuilt" if self.plan.rebuilt else "state"


class Engine:
    """Computes answers. `rules` is called for each batch, so a changed rules file takes effect.

    `observe` is called with a version, the jobs that it answered and its answers to them, both by place, and the seconds of CPU time
    that the thread took for all of them.
    """

    def __init__(
        self,
        states: StateStore | UserStates,
        settings: BatchSettings,
        rules: Callable[[], Rules],
        observe: Callable[[str, Mapping[int, RecommendJob], Mapping[int, Result], float], None] = lambda *_: None,
    ) -> None:
        self.observe = observe
        self.states = states if isinstance(states, UserStates) else UserStates(states)
        self._rules = rules
        self.models = Models(None, {})
        self.answers, self.cold_starts = AnswerCache(settings), ColdStartCache()
        # The rules and versions of the last batch. They produced the cached answers.
        self._last_rules: Rules | None = None
        self._last_models = self.models

    def process(self, jobs: Sequence[Job]) -> list[Result]:
        """Return each job's answer, or the exception that explains why there is none."""
        models, rules = self.models, self._rules()
        self._forget_outdated(models, rules)
        results: dict[int, Result] = {}
        events = {place: job for place, job in enumerate(jobs) if isinstance(job, EventJob)}
        if events:
            results |= _guarded(events, partial(self._advance, events, models))
        requests: dict[ServedModel, dict[int, RecommendJob]] = {}
        for place, job in enumerate(jobs):
            if isinstance(job, RecommendJob):
                try:
                    model = models.required(job.assignment.version) if job.named else models.assigned(job.assignment)
                except RecsysError as error:
                    results[place] = error
                else:
                    requests.setdefault(model, {})[place] = job
        for model, own in requests.items():
            before = time.thread_time()
            answered = _guarded(own, partial(self._recommend, own, model, rules))
            _attempt(partial(self.observe, model.version, own, answered, time.thread_time() - before))  # it costs no answer
            results |= answered
        return [results[place] for place in range(len(jobs))]

    def serving(self, version: str = CHAMPION) -> ServedModel:
        """Return a served version, by default the champion.

        Raises:
            ModelMissingError: If there is no champion.
            RequestRefusedError: If another version is not served.
        """
        return self.models.required(version)

    def schema(self) -> DataSchema:
        """Return the properties of the data of the served versions. Their ids have the same types.

        Raises:
            ModelMissingError: If no version is served.
        """
        served = self.models.champion or next(iter(self.models.others.values()), None)
        return (self.serving() if served is None else served).catalogue.schema

    def log_of(self, user: int) -> tuple[ServedModel, UserLog]:
        """Return the champion and the user's events."""
        model = self.serving()
        return model, self.states.read([user], model)[user].log

    def onboarding(self, count: int, now: int) -> tuple[ServedModel, npt.NDArray[np.int64]]:
        """Return the champion, and items of its catalogue for a new user to choose from."""
        model = self.serving()
        return model, self.cold_starts.of(model).onboarding(count, now)

    def _forget_outdated(self, models: Models, rules: Rules) -> None:
        if rules is not self._last_rules or models is not self._last_models:
            self.answers.clear()
            self.cold_starts.keep_only([model for _, model in models.by_role()])
            self._last_rules, self._last_models = rules, models

    def _advance(self, jobs: Mapping[int, EventJob], models: Models) -> dict[int, Result]:
        """Append the events of all jobs, and advance the states of their users. Each user's events go to one version."""

        def model_of(job: EventJob, event: NewEvent) -> ServedModel:
            return models.assigned(job.assignments[event.user])

        events: dict[ServedModel, dict[int, list[NewEvent]]] = {}
        for job in jobs.values():
            for event in job.events:
                events.setdefault(model_of(job, event), {}).setdefault(event.user, []).append(event)
        appended: dict[tuple[ServedModel, int], Iterator[EventResult] | Exception] = {}
        for model, by_user in events.items():
            for user, found in _guarded(by_user, partial(self._append, by_user, model)).items():
                appended[model, user] = found if isinstance(found, Exception) else iter(found)
        return {
            place: _together([(model_of(job, event), event) for event in job.events], appended) for place, job in jobs.items()
        }

    def _append(self, events: Mapping[int, Sequence[NewEvent]], model: ServedModel) -> Mapping[int, list[EventResult]]:
        """Append events of users whom one version serves, and advance their states."""
        results, appended = self.states.append(events, model)
        self.cold_starts.count(
            [
                event
                for user, own in events.items()
                for event, result in zip(own, results[user], strict=True)
                if result.outcome in (Outcome.APPLIED, Outcome.LATE)
            ]
        )
        # The events are stored. If a state cannot be advanced, it is rebuilt from them later: an error here would make the client
        # send them again.
        _attempt(partial(self.states.advance, appended, model))
        return results

    def _recommend(self, jobs: Mapping[int, RecommendJob], model: ServedModel, rules: Rules) -> dict[int, Result]:
        """Answer requests that one version serves: from the cache, from users' states, or as a cold start."""
        users = list(dict.fromkeys(job.user for job in jobs.values() if job.user is not None))
        stored = self.states.read(users, model)
        results: dict[int, Result] = {}
        rows: dict[int, _Row] = {}
        for place, job in jobs.items():
            own = NOBODY if job.user is None else stored[job.user]
            log = seen_at(own.log, job.time, job.history)
            key = answer_key(job, model, log)
            cached = self.answers.get(key)
            if cached is not None:
                results[place] = cached
                continue
            plan = model.plan(log, own.state)
            rows[place] = _Row(job, log, plan, new_state=log is own.log and not plan.current, key=key)
        scores = self._scores([row for row in rows.values() if row.warm], model)
        for place, row in rows.items():
            results[place] = self._rank(row, next(scores) if row.warm else None, model, rules)
        return results

    def _scores(self, rows: Sequence[_Row], model: ServedModel) -> Iterator[Floats | UserScores]:
        """Return the scores of each row, and store the states that were computed for them."""
        if not rows:
            return iter(())
        users, plans = [row.job.user for row in rows], [row.plan for row in rows]
        numbers = model.states(plans, users)
        states = {
            row.job.user: row.plan.state_of(row.log, own)
            for row, own in zip(rows, numbers, strict=True)
            if row.new_state and row.job.user is not None
        }
        self.states.write(states, model)
        return iter(model.scored(numbers, plans, [row.job.time.at for row in rows], users))

    def _rank(self, row: _Row, scores: Floats | UserScores | None, model: ServedModel, rules: Rules) -> Answer | Exception:
        """Return the answer with the row's scores, or a cold start if there are none."""
        job, filters, detail = row.job, row.job.filters, ""
        try:
            if scores is None:
                cold = self.cold_starts.of(model).scores(job.time.at, job.likes, job.like_attributes, chosen=job.time.chosen)
                scores, detail = cold.scores, cold.source
            seen = model.indices(row.log.items)
            seen = seen[seen >= 0]
            excluded = model.indices(np.array(filters.exclude, np.int64)) if filters.exclude else seen[:0]
            request = RankRequest(
                k=job.k,
                history=seen,
                events=row.log.count,
                genres=filters.genres,
                years=filters.years,
                attributes=filters.attributes,
                exclude=excluded[excluded >= 0],
                now=job.time.at,
            )
            ranking = rules.rank(scores, model.catalogue, request, model.model.item_vectors, scratch=True)
        except RecsysError as error:
            return error
        answer = Answer(
            version=model.version,
            source=row.source,
            detail=detail,
            events=row.log.count,
            last_event=int(row.log.times[-1]) if len(row.log) else None,
            items=_described(ranking, seen, model, explained=job.explain),
        )
        self.answers.put(row.key, answer)
        return answer


def _described(ranking: Ranking, seen: npt.NDArray[np.int64], model: ServedModel, *, explained: bool) -> list[Recommended]:
    explanations = explain(model, ranking.items, seen) if explained else [None] * len(ranking.items)
    return [
        Recommended(item_id, title, year, genres, attributes, score, applied_rules, model.json_of(index), explanation)
        for index, (item_id, title, year, genres, attributes), score, applied_rules, explanation in zip(
            ranking.items.tolist(),
            [model.described[index] for index in ranking.items.tolist()],
            ranking.scores.tolist(),
            ranking.applied_rules,
            explanations,
            strict=True,
        )
    ]


def _together(
    events: Sequence[tuple[ServedModel, NewEvent]], appended: Mapping[tuple[ServedModel, int], Iterator[EventResult] | Exception]
) -> list[EventResult] | Exception:
    """Return the results of one request's events, or the error if none was stored.

    Events that were stored are acknowledged even if others failed. Otherwise the client would send all of them again.
    """
    results: list[EventResult] = []
    errors: list[Exception] = []
    for model, event in events:
        found = appended[model, event.user]
        if isinstance(found, Exception):
            errors.append(found)
            results.append(EventResult(None, model.catalogue.index_of(event.item) is not None, model.version))
        else:
            results.append(next(found))
    return errors[0] if len(errors) == len(events) else results


def _guarded(places: Iterable[int], compute: Callable[[], Mapping[int, Found]]) -> Mapping[int, Found | Exception]:
    """Return the results by place, or the same error for every place if there are none."""
    found = _attempt(compute)
    return dict.fromkeys(places, found) if isinstance(found, Exception) else found


def _attempt(compute: Callable[[], Found]) -> Found | Exception:
    """Return the result, or the error if there is none.

    A defect is logged: nobody waits for a shadow's answer, so nobody else would report it.
    """
    try:
        return compute()
    except Exception as error:
        if not isinstance(error, RecsysError):
            logger.error("the engine failed", exc_info=error)
        return error
