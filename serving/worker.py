"""Assembles the parts of a worker: states, engine, batches, following, rules, experiments, exposures, metrics."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter

from configs.serving import CHAMPION, ExposureSettings, ServingSettings
from infra.storage import open_store
from serving.engine import Answer, Batcher, Engine, EventJob, EventResult, Models, NewEvent, RecommendJob
from serving.experiments import Assignment, Experiments, Exposure, ExposureLog, ExposureSink
from serving.follower import ChampionFollower
from serving.metrics import Metrics
from serving.reranking import Rules
from serving.state import FailoverStates, LocalStates, StateStore

__all__ = ["ServingWorker"]

logger = logging.getLogger(__name__)


class ServingWorker:
    """All parts of one worker. `start` loads the champion if there is one. Call `close` once no job is waiting any more."""

    def __init__(self, settings: ServingSettings, exposures: ExposureSink | None = None) -> None:
        """Assemble the parts.

        Args:
            settings: The settings of the server.
            exposures: Takes the exposures in place of the exposure log, even if the settings ask for no log.
        """
        self.settings, self.metrics = settings, Metrics()
        self.states: StateStore = (
            FailoverStates(settings.redis, settings.state, self._report_outage, self._count_fault)
            if settings.redis.url
            else LocalStates(settings.state)
        )
        self.metrics.redis_up.set(1 if settings.redis.url else 0)
        no_rules, no_experiments = Rules(), Experiments()
        self._rules: Callable[[], Rules] = Rules.watch(settings.rules).current if settings.rules else lambda: no_rules
        self._experiments: Callable[[], Experiments] = (
            Experiments.watch(settings.experiments).current if settings.experiments else lambda: no_experiments
        )
        self.engine = Engine(self.states, settings.batch, self._rules)
        store = open_store(settings.store)
        if exposures is None and (settings.exposures is not None or settings.experiments is not None):
            exposures = ExposureLog(settings.exposures or ExposureSettings(), store)
        self.exposures = exposures
        self.follower = ChampionFollower(store, settings, self._swap, lambda: self._experiments().versions)
        self.batcher = Batcher(
            self.engine.process,
            most=settings.batch.requests,
            queue=settings.limits.queue,
            between=self._between,
            on_batch=self.metrics.batch.observe,
            events_of=attrgetter("event_count"),
        )
        self._counted = (0, 0)  # hits and misses of the answer cache that the metrics include

    def start(self) -> None:
        """Read the promotion log once, and then follow it in a thread."""
        self.follower.look()
        self.follower.start()

    def close(self) -> None:
        """Stop following, and store and send what is still waiting."""
        self.follower.close()
        self.states.close()
        if self.exposures is not None:
            self.exposures.close()

    def assign(self, user: int | None, version: str | None, now: int) -> Assignment:
        """Return which version answers a request.

        Args:
            user: The user, if the request names one.
            version: The version that the request asks for, if any.
            now: UTC seconds.
        """
        if version is not None:
            return Assignment(version)
        return Assignment(CHAMPION) if user is None else self._experiments().assign(user, now)

    async def recommend(self, job: RecommendJob) -> Answer:
        """Return the ranking, and log it as an exposure if somebody sees it now."""
        answer: Answer = await self.batcher.submit(job)
        self.metrics.answers.labels(answer.version, answer.source).inc()
        if answer.last_event is not None:
            self.metrics.state_age.observe(max(job.time.at - answer.last_event, 0))
        unseen = job.preview or job.time.is_hypothetical(self.settings.limits.future_s)
        if self.exposures is not None and job.user is not None and not unseen:
            self.exposures.write(_exposure(job, job.user, answer))
            self._ask_shadows(job, job.user, self.exposures)
        return answer

    async def advance(self, events: Sequence[NewEvent], now: int) -> Sequence[EventResult]:
        """Store events of any users, and advance their users' states. Return what became of each event."""
        assignments = {event.user: self.assign(event.user, None, now) for event in events}
        results: Sequence[EventResult] = await self.batcher.submit(EventJob(tuple(events), assignments))
        for result in results:
            self.metrics.events.labels(result.outcome.label).inc()
        return results

    def _ask_shadows(self, job: RecommendJob, user: int, exposures: ExposureSink) -> None:
        """Let the shadow versions answer too, when there is time. Their answers are only logged."""

        def log(asked: RecommendJob, answer: Answer | Exception) -> None:
            if isinstance(answer, Answer):
                exposures.write(_exposure(asked, user, answer, shadow=True))

        for version in job.assignment.shadow:
            if self.engine.models.named(version) is not None:
                asked = replace(job, assignment=Assignment(version), named=True, explain=False)
                self.batcher.offer(asked, partial(log, asked))

    def _between(self) -> None:
        """Update the gauges, and send events that are waiting for Redis. Called between batches."""
        self._update_gauges()
        if isinstance(self.states, FailoverStates):
            self.states.recover()

    def _update_gauges(self) -> None:
        hits, misses = self.engine.answers.hits, self.engine.answers.misses
        self.metrics.cache.labels("yes").inc(hits - self._counted[0])
        self.metrics.cache.labels("no").inc(misses - self._counted[1])
        self._counted = (hits, misses)
        self.metrics.refused.set(len(self.follower.refused))
        if isinstance(self.states, FailoverStates):
            self.metrics.unsent.set(self.states.unsent)
            self.metrics.lost.set(self.states.lost)
        if self.exposures is not None:
            self.metrics.exposures_dropped.set(self.exposures.dropped)

    def _report_outage(self, down: bool, why: str) -> None:
        self.metrics.redis_up.set(0 if down else 1)
        if down:
            self.metrics.outages.inc()
            logger.warning("Redis does not answer; serving from memory", extra={"reason": why})
        else:
            logger.warning("Redis answers again")

    def _count_fault(self, key: str, why: str) -> None:
        self.metrics.redis_faults.inc()

    def _swap(self, models: Models) -> None:
        before = self.engine.models
        for _, model in models.by_role():
            self._rules().warm(model.catalogue)
        self.engine.models = models
        gc.freeze()  # a version's films, rules and weights live long; a garbage collection that scans them takes milliseconds
        self._update_model_metrics(before, models)

    def _update_model_metrics(self, before: Models, models: Models) -> None:
        for role, model in before.by_role():
            self.metrics.model.labels(model.version, model.model.kind, role).set(0)
        for role, model in models.by_role():
            self.metrics.model.labels(model.version, model.model.kind, role).set(1)
        if models.champion is not None:
            self.metrics.promotion.set(models.champion.number)
            if before.champion is not None and before.champion.version != models.champion.version:
                self.metrics.swaps.inc()


def _exposure(job: RecommendJob, user: int, answer: Answer, *, shadow: bool = False) -> Exposure:
    assigned = job.assignment
    tested = not shadow and assigned.covers(answer.version)
    return Exposure(
        time=job.time.server_now,
        user=user,
        request=job.request_id,
        version=answer.version,
        items=[item.item_id for item in answer.items],
        experiment=assigned.experiment if tested else None,
        arm=assigned.arm if tested else None,
        revision=assigned.revision if tested else None,
        shadow=shadow,
    )
