"""Assembles the parts of a worker: states, engine, batches, following, rules, experiments, exposures, metrics."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from configs.serving import ExposureSettings, ServingSettings
from infra.storage import open_store
from serving.engine import CHAMPION, Advanced, Answer, Batcher, Engine, EventJob, Models, RecommendJob, ServedModel
from serving.experiments import Assignment, Experiments, Exposure, ExposureLog
from serving.follower import Follower
from serving.metrics import Metrics
from serving.reranking import Rules
from serving.state import LocalStates, ResilientStates, StateStore

__all__ = ["Service"]

logger = logging.getLogger(__name__)


class Service:
    """All parts of one worker. `start` loads the champion if there is one. Call `close` once no job is waiting any more."""

    def __init__(self, settings: ServingSettings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.states: StateStore = (
            ResilientStates(settings.redis, settings.state, self._outage) if settings.redis.url else LocalStates(settings.state)
        )
        self.metrics.redis_up.set(1 if settings.redis.url else 0)
        plain, nothing = Rules(), Experiments()
        rules: Callable[[], Rules] = Rules.watch(settings.rules).current if settings.rules else lambda: plain
        self._experiments: Callable[[], Experiments] = (
            Experiments.watch(settings.experiments).current if settings.experiments else lambda: nothing
        )
        self.engine = Engine(self.states, settings.batch, rules)
        self._rules = rules
        store = open_store(settings.store)
        wanted = settings.exposures is not None or settings.experiments is not None
        self.exposures = ExposureLog(settings.exposures or ExposureSettings(), store) if wanted else None
        self.follower = Follower(store, settings, self._swap, lambda: self._experiments().versions)
        self.batcher = Batcher(
            self.engine.process,
            most=settings.batch.requests,
            queue=settings.limits.queue,
            between=self._between,
            on_batch=self.metrics.batch.observe,
        )
        self._counted = (0, 0)

    def start(self) -> None:
        """Read the promotion log once, and then follow it in a thread."""
        self.follower.look()
        self.follower.start()

    def close(self) -> None:
        self.follower.close()
        self.states.close()
        if self.exposures is not None:
            self.exposures.close()

    def assign(self, user: int | None, version: str | None, now: int) -> Assignment:
        """Return which version answers a request."""
        if version is not None:
            return Assignment(version)
        return Assignment(CHAMPION) if user is None else self._experiments().assign(user, now)

    async def recommend(self, job: RecommendJob) -> Answer:
        answer: Answer = await self.batcher.submit(job)
        self.metrics.answers.labels(answer.version, answer.source).inc()
        if answer.last_event is not None:
            self.metrics.state_age.observe(max(job.now - answer.last_event, 0))
        self._expose(job, answer)
        return answer

    async def advance(self, job: EventJob) -> Advanced:
        done: Advanced = await self.batcher.submit(job)
        for outcome in done.outcomes:
            self.metrics.events.labels(outcome.name.lower()).inc()
        return done

    def _expose(self, job: RecommendJob, answer: Answer, shadow: bool = False) -> None:
        asked = job.now if job.asked is None else job.asked
        what_if = abs(job.now - asked) > self.settings.limits.future_s  # a hypothetical request, which nobody sees now
        if self.exposures is None or job.user is None or what_if:
            return
        assigned = job.assignment
        # If the champion stood in for a version that is not loaded, the answer does not belong to the arm.
        stands_in = assigned.version not in (CHAMPION, answer.version)
        tested = not shadow and not stands_in
        self.exposures.write(
            Exposure(
                time=asked,
                user=job.user,
                request=job.request_id,
                version=answer.version,
                items=[item.movie_id for item in answer.items],
                experiment=assigned.experiment if tested else None,
                arm=assigned.arm if tested else None,
                revision=assigned.revision if tested else None,
                shadow=shadow,
            )
        )
        if shadow:
            return
        for version in assigned.shadow:
            if self.engine.models.named(version) is not None:
                unseen = replace(job, assignment=Assignment(version), named=True, explain=False)
                self.batcher.offer(unseen, partial(self._expose_shadow, unseen))

    def _expose_shadow(self, job: RecommendJob, answer: Answer | Exception) -> None:
        if isinstance(answer, Answer):
            self._expose(job, answer, shadow=True)

    def _between(self) -> None:
        """Update the gauges, and send events that are waiting for Redis. Called between batches."""
        self._tell_gauges()
        if isinstance(self.states, ResilientStates):
            self.states.recover()

    def _tell_gauges(self) -> None:
        hits, misses = self.engine.cache_hits, self.engine.cache_misses
        self.metrics.cache.labels("yes").inc(hits - self._counted[0])
        self.metrics.cache.labels("no").inc(misses - self._counted[1])
        self._counted = (hits, misses)
        self.metrics.refused.set(len(self.follower.refused))
        if isinstance(self.states, ResilientStates):
            self.metrics.unsent.set(self.states.unsent)
            self.metrics.lost.set(self.states.lost)
        if self.exposures is not None:
            self.metrics.exposures_dropped.set(self.exposures.dropped)

    def _outage(self, down: bool, why: str) -> None:
        self.metrics.redis_up.set(0 if down else 1)
        if down:
            self.metrics.outages.inc()
            logger.warning("Redis does not answer; serving from memory", extra={"reason": why})
        else:
            logger.warning("Redis answers again")

    def _swap(self, models: Models) -> None:
        before = self.engine.models
        for model in models.others.values():
            self._rules().warm(model.catalogue)
        if models.champion is not None:
            self._rules().warm(models.champion.catalogue)
        self.engine.models = models
        gc.freeze()  # a version's films, rules and weights live long; a garbage collection that scans them takes milliseconds
        self._tell_models(before, models)

    def _tell_models(self, before: Models, models: Models) -> None:
        for role, model in _roles(before):
            self.metrics.model.labels(model.version, model.model.kind, role).set(0)
        for role, model in _roles(models):
            self.metrics.model.labels(model.version, model.model.kind, role).set(1)
        if models.champion is not None:
            self.metrics.promotion.set(models.champion.number)
            if before.champion is not None and before.champion.version != models.champion.version:
                self.metrics.swaps.inc()


def _roles(models: Models) -> Sequence[tuple[str, ServedModel]]:
    champion = [] if models.champion is None else [("champion", models.champion)]
    return [*champion, *(("beside", model) for model in models.others.values())]


def now() -> int:
    """Return the current time in UTC seconds."""
    return int(time.time())
