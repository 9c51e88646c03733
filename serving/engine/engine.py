"""Answers batches of requests: loads users' states, computes one matrix product for all requests, and ranks each one.

Runs in the event loop. Versions are looked up once per batch, so one version produces a complete answer, from state to titles.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import ModelMissingError, RecsysError, RequestRefusedError
from configs.serving import BatchSettings
from serving.engine.cold_start import ColdStart, RecentPopularity
from serving.engine.jobs import Advanced, Answer, EventJob, NewEvent, Reason, Recommended, RecommendJob, Source
from serving.engine.served_model import Plan, ServedModel
from serving.reranking import Ranking, RankRequest, Rules
from serving.state import Outcome, StateStore, UserLog, UserState, entry

__all__ = ["CHAMPION", "Engine", "Job", "Models"]

Job = RecommendJob | EventJob
CHAMPION = "champion"
logger = logging.getLogger(__name__)
RECENT = 100_000  # latest events that initialize a new version's recent popularity


@dataclass(frozen=True)
class Models:
    """The versions that answer requests, swapped as one object."""

    champion: ServedModel | None
    others: Mapping[str, ServedModel]

    def named(self, version: str) -> ServedModel | None:
        """Return a version by its name or as `champion`, or None if it is not loaded."""
        if version == CHAMPION or (self.champion is not None and version == self.champion.version):
            return self.champion
        return self.others.get(version)


@dataclass(eq=False)
class _Row:
    """A ranking request that is being processed."""

    job: RecommendJob
    place: int  # in the batch
    log: UserLog
    plan: Plan
    kept: bool  # the plan produces the state of the user's own log, which is worth storing
    source: Source


class Engine:
    """Computes answers. `rules` is called for each batch, so a changed rules file takes effect."""

    def __init__(self, states: StateStore, settings: BatchSettings, rules: Callable[[], Rules]) -> None:
        self.states, self._settings, self._rules = states, settings, rules
        self.models = Models(None, {})
        self.cache_hits = self.cache_misses = 0
        self._answers: OrderedDict[tuple[Any, ...], tuple[float, Answer]] = OrderedDict()
        # The rules and versions that produced the cached answers.
        self._ruled: Rules | None = None
        self._before = self.models
        self._recent: deque[tuple[int, int]] = deque(maxlen=RECENT)  # raw id, UTC seconds
        self._cold: dict[str, tuple[ServedModel, ColdStart, RecentPopularity]] = {}

    def process(self, jobs: Sequence[Job]) -> list[Answer | Advanced | Exception]:
        """Return each job's answer, or the exception that explains why there is none."""
        models, rules = self.models, self._rules()
        if rules is not self._ruled or models is not self._before:
            self._answers.clear()
            self._cold = {version: kept for version, kept in self._cold.items() if models.named(version) is kept[0]}
            self._ruled, self._before = rules, models
        results: list[Answer | Advanced | Exception] = [RuntimeError("not answered")] * len(jobs)
        events = [(place, job) for place, job in enumerate(jobs) if isinstance(job, EventJob)]
        if events:
            try:
                for place, done in self._advance(events, models):
                    results[place] = done
            except Exception as error:  # every event job of the batch gets the error
                _tell_of_defect(error)
                for place, _ in events:
                    results[place] = error
        asked: dict[str, tuple[ServedModel, list[tuple[int, RecommendJob]]]] = {}
        for place, job in enumerate(jobs):
            if isinstance(job, RecommendJob):
                try:
                    model = (_required if job.named else _serving)(models, job.assignment.version)
                except RecsysError as error:
                    results[place] = error
                else:
                    asked.setdefault(model.version, (model, []))[1].append((place, job))
        for model, group in asked.values():
            try:
                for place, answer in self._recommend(group, model, rules):
                    results[place] = answer
            except Exception as error:
                _tell_of_defect(error)
                for place, _ in group:
                    results[place] = error
        return results

    def serving(self, version: str = CHAMPION) -> ServedModel:
        """Return a served version, by default the champion.

        Raises:
            ModelMissingError: If there is no champion.
            RequestRefusedError: If another version is not served.
        """
        return _required(self.models, version)

    def log_of(self, user: int) -> tuple[ServedModel, UserLog]:
        """Return the champion and the user's events."""
        model = self.serving()
        return model, UserLog.read(self.states.read([user], model.version)[0].log)

    def onboarding(self, count: int, now: int) -> tuple[ServedModel, npt.NDArray[np.int64]]:
        """Return the champion, and films of its catalogue for a new user to choose from."""
        model = self.serving()
        return model, self._cold_start(model)[0].onboarding(count, now)

    def _advance(self, jobs: list[tuple[int, EventJob]], models: Models) -> list[tuple[int, Advanced]]:
        by_version: dict[str, dict[int, list[tuple[int, int, NewEvent]]]] = {}
        for place, job in jobs:
            for number, event in enumerate(job.events):
                users = by_version.setdefault(_serving(models, job.assignments[event.user].version).version, {})
                users.setdefault(event.user, []).append((place, number, event))
        outcomes: dict[tuple[int, int], tuple[Outcome, bool, str]] = {}
        for version, users in by_version.items():
            model = _required(models, version)
            entries = [(user, b"".join(entry(e.item, e.time, e.key) for _, _, e in events)) for user, events in users.items()]
            plans, logs = [], []
            accepted: list[tuple[int, int]] = []
            for (_, events), added in zip(users.items(), self.states.append(entries, version), strict=True):
                log = UserLog.read(added.log)
                logs.append(log)
                plans.append(model.plan(log, UserState.read(added.state, model.model.state_size)))
                for (place, number, event), outcome in zip(events, added.outcomes, strict=True):
                    index = model.catalogue.index_of(event.item)
                    outcomes[place, number] = (outcome, index is not None, version)
                    if outcome in (Outcome.APPLIED, Outcome.LATE):
                        accepted.append((event.item, event.time))
            self._keep(model, list(users), logs, plans, model.states(plans, list(users)))
            self._count_recent(accepted)
        result = []
        for place, job in jobs:
            found = [outcomes[place, number] for number in range(len(job.events))]
            result.append((place, Advanced([f[0] for f in found], [f[1] for f in found], [f[2] for f in found])))
        return result

    def _recommend(
        self, jobs: list[tuple[int, RecommendJob]], model: ServedModel, rules: Rules
    ) -> list[tuple[int, Answer | Exception]]:
        result: list[tuple[int, Answer | Exception]] = []
        users = list(dict.fromkeys(job.user for _, job in jobs if job.user is not None))
        stored = dict(zip(users, self.states.read(users, model.version), strict=True)) if users else {}
        rows: list[_Row] = []
        for place, job in jobs:
            found = stored.get(job.user) if job.user is not None else None
            own = UserLog.read(found.log if found else None)
            log = _heard(own, job)
            cached = self._cached(job, model, log)
            if cached is not None:
                result.append((place, cached))
                continue
            plan = model.plan(log, UserState.read(found.state if found else None, model.model.state_size))
            source: Source = "history" if job.history else "rebuilt" if plan.rebuilt else "state"
            rows.append(_Row(job, place, log, plan, log is own and not plan.current, source if len(plan.items) else "cold"))
        warm = [row for row in rows if len(row.plan.items)]
        if warm:
            owners = [row.job.user for row in warm]
            plans = [row.plan for row in warm]
            numbers = model.states(plans, owners)
            kept = {row.job.user: place for place, row in enumerate(warm) if row.kept}
            chosen = list(kept.values())
            self._keep(
                model,
                [u for u in kept if u is not None],
                [warm[p].log for p in chosen],
                [plans[p] for p in chosen],
                numbers[chosen],
            )
            scores = model.scores(numbers, plans, [row.job.now for row in warm], owners)
            result += [(row.place, self._rank(row, scores[place], model, rules)) for place, row in enumerate(warm)]
        result += [(row.place, self._rank(row, None, model, rules)) for row in rows if not len(row.plan.items)]
        return result

    def _keep(
        self, model: ServedModel, users: list[int], logs: list[UserLog], plans: list[Plan], numbers: npt.NDArray[np.float32]
    ) -> None:
        states = []
        for user, log, plan, row in zip(users, logs, plans, numbers, strict=True):
            if plan.current or not log.count:
                continue
            item, at = (int(plan.items[-1]), int(plan.times[-1])) if len(plan.items) else (-1, 0)
            states.append((user, UserState(log.epoch, log.count, item, at, row).to_bytes()))
        if states:
            self.states.write(states, model.version)

    def _rank(self, row: _Row, scores: npt.NDArray[np.float32] | None, model: ServedModel, rules: Rules) -> Answer | Exception:
        job, catalogue, detail = row.job, model.catalogue, ""
        try:
            if scores is None:
                cold = self._cold_start(model)[0].scores(job.now, job.likes)
                scores, detail = cold.scores, cold.source
            seen = model.indices(row.log.items)
            seen = seen[seen >= 0]
            excluded = model.indices(np.array(job.exclude, np.int64)) if job.exclude else seen[:0]
            request = RankRequest(
                k=job.k, history=seen, genres=job.genres, years=job.years, exclude=excluded[excluded >= 0], now=job.now
            )
            ranking = rules.rank(scores, catalogue, request, model.model.item_vectors, scratch=True)
        except RecsysError as error:
            return error
        reasons = _reasons(model, ranking, seen) if job.explain else [None] * len(ranking.items)
        answer = Answer(
            version=model.version,
            source=row.source,
            detail=detail,
            events=row.log.count,
            last_event=int(row.log.times[-1]) if len(row.log) else None,
            items=[
                Recommended(film.movie_id, film.title, film.year, film.genres, score, fired, reason)
                for film, score, fired, reason in zip(
                    [model.films[item] for item in ranking.items.tolist()],
                    ranking.scores.tolist(),
                    ranking.fired,
                    reasons,
                    strict=True,
                )
            ],
        )
        self._remember(job, model, row.log, answer)
        return answer

    def _cached(self, job: RecommendJob, model: ServedModel, log: UserLog) -> Answer | None:
        if job.user is None or job.history or not self._settings.cache_entries or not self._settings.cache_s:
            return None
        found = self._answers.get(self._key(job, model, log))
        if found is None or found[0] < time.monotonic():
            self.cache_misses += 1
            return None
        self.cache_hits += 1
        return replace(found[1], cached=True)

    def _remember(self, job: RecommendJob, model: ServedModel, log: UserLog, answer: Answer) -> None:
        if job.user is None or job.history or not self._settings.cache_entries or not self._settings.cache_s:
            return
        self._answers[self._key(job, model, log)] = (time.monotonic() + self._settings.cache_s, answer)
        if len(self._answers) > self._settings.cache_entries:
            self._answers.popitem(last=False)

    @staticmethod
    def _key(job: RecommendJob, model: ServedModel, log: UserLog) -> tuple[Any, ...]:
        asked = (job.k, job.genres, job.years, job.exclude, job.likes, job.explain)
        return (job.user, model.version, log.epoch, log.count, job.now if job.timed else None, *asked)

    def _cold_start(self, model: ServedModel) -> tuple[ColdStart, RecentPopularity]:
        kept = self._cold.get(model.version)
        if kept is None or kept[0] is not model:
            recent = RecentPopularity(len(model.catalogue))
            kept = self._cold[model.version] = (model, ColdStart(model.catalogue, recent), recent)
            _count(recent, model, list(self._recent))
        return kept[1], kept[2]

    def _count_recent(self, events: list[tuple[int, int]]) -> None:
        self._recent.extend(events)
        for model, _, recent in self._cold.values():
            _count(recent, model, events)


def _tell_of_defect(error: Exception) -> None:
    """Log a defect: nobody waits for a shadow's answer, so nobody else would report it."""
    if not isinstance(error, RecsysError):
        logger.error("the engine failed", exc_info=error)


def _heard(log: UserLog, job: RecommendJob) -> UserLog:
    """Return the user's events up to the request, with those that it contains. Return `log` itself if nothing differs."""
    if job.timed and len(log) and log.times[-1] > job.now:
        past = int(np.searchsorted(log.times, job.now, side="right"))
        log = UserLog(log.epoch, log.count - (len(log) - past), log.times[:past], log.items[:past])
    if not job.history:
        return log
    times = np.array([job.now if event.time is None else event.time for event in job.history], np.int64)
    items = np.array([event.item for event in job.history], np.int64)
    known = {(int(item), int(at)) for item, at in zip(log.items, log.times, strict=True)}
    told = np.array([at <= job.now and (int(item), int(at)) not in known for item, at in zip(items, times, strict=True)], bool)
    items, times = items[told], times[told]
    order = np.argsort(times, kind="stable")
    items, times = items[order], times[order]
    count = log.count + len(items)
    if not len(log) or not len(items) or times[0] >= log.times[-1]:  # the user's state can be continued
        return UserLog(log.epoch, count, np.append(log.times, times), np.append(log.items, items))
    times, items = np.append(log.times, times), np.append(log.items, items)
    order = np.argsort(times, kind="stable")
    return UserLog(b"", count, times[order], items[order])


def _required(models: Models, version: str) -> ServedModel:
    found = models.named(version)
    if found is None:
        if version == CHAMPION:
            raise ModelMissingError("No model is served yet: nothing has been promoted, or no promoted version works.")
        raise RequestRefusedError(f"The version {version} is not served. GET /v1/models lists the served versions.")
    return found


def _serving(models: Models, version: str) -> ServedModel:
    """Return the assigned version, or the champion if that version is not (yet) loaded."""
    found = models.named(version)
    return found if found is not None else _required(models, CHAMPION)


def _count(recent: RecentPopularity, model: ServedModel, events: list[tuple[int, int]]) -> None:
    if not events:
        return
    items, times = np.array(events, np.int64).T
    indices = model.indices(items)
    recent.add(indices[indices >= 0], times[indices >= 0])


def _reasons(model: ServedModel, ranking: Ranking, seen: npt.NDArray[np.int64]) -> list[Reason | None]:
    if not len(seen) or not model.directions.shape[1]:
        return [None] * len(ranking.items)
    seen = np.unique(seen)
    likeness = model.directions[ranking.items] @ model.directions[seen].T
    nearest = likeness.argmax(axis=1)
    return [
        Reason(int(model.catalogue.movie_ids[seen[place]]), model.catalogue.titles[seen[place]], float(likeness[row, place]))
        for row, place in enumerate(nearest)
    ]
