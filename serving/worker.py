"""Assembles the parts of a worker: states, engine, batches, following, rules, experiments, exposures, metrics."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter

from configs.errors import OverloadedError, StoreError
from configs.serving import CHAMPION, ExposureSettings, ServingSettings
from infra.erasures import Erasure
from infra.storage import open_store
from models.schema import DataSchema
from serving.access import watch_keys
from serving.background import BackgroundLoop
from serving.engine import Answer, Batcher, Engine, EventJob, EventResult, Models, NewEvent, RecommendJob, UserStates
from serving.erasures import Erasures
from serving.experiments import Assignment, Experiments, ExposureLog, ExposureSink, Outcome, OutcomeLog
from serving.follower import ChampionFollower
from serving.histories import HistoryShelf
from serving.metrics import Metrics
from serving.reranking import Rules
from serving.rollout import MeasuringLoop
from serving.showing import Showing
from serving.state import FailoverStates, LocalStates, StateStore

__all__ = ["ServingWorker"]

logger = logging.getLogger(__name__)
FILES_S = 1.0  # seconds between two looks at the settings files
FIRST_LOOK_S = 60.0
THREAD_S = 1.0  # seconds that a thread may take to end; what it does then is given up


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
        rules = Rules.watch(settings.rules, prepare=self._compile) if settings.rules else None
        experiments = Experiments.watch(settings.experiments) if settings.experiments else None
        self.keys = watch_keys(settings)
        no_rules, no_experiments = Rules(), Experiments()
        self._rules: Callable[[], Rules] = rules.current if rules else lambda: no_rules
        self._experiments: Callable[[], Experiments] = experiments.current if experiments else lambda: no_experiments
        watched = {"rules": rules, "experiments": experiments, "keys": self.keys}
        self._files = {name: file for name, file in watched.items() if file is not None}
        self._changing = (
            threading.Lock()
        )  # held while rules or versions change: new rules are compiled for all versions, and new versions for all rules
        self._watching = BackgroundLoop("settings-files", self._look_at_files, FILES_S, on_failure=self.metrics.failed)
        self.store = store = open_store(settings.store)
        self.histories: HistoryShelf | None = None
        if settings.histories.enabled:
            self.histories = HistoryShelf(
                store, settings.work_dir / "histories", on_change=self.metrics.histories.set, on_failure=self.metrics.failed
            )
        known = self.histories.of if self.histories is not None else lambda dataset: None
        self.erasures = Erasures(store, on_failure=self.metrics.failed)
        users = UserStates(self.states, known, settings.histories.tolerance_s, self.erasures)
        self.engine = Engine(users, settings.batch, self._rules)
        if exposures is None and (settings.exposures is not None or settings.experiments is not None):
            exposures = ExposureLog(settings.exposures or ExposureSettings(), store, self.metrics.failed)
        self.exposures = exposures
        self.outcomes = OutcomeLog(settings.outcomes, store, self.metrics.failed)
        self.follower = ChampionFollower(
            store, settings, self._swap, lambda: self._experiments().versions, on_failure=self.metrics.failed
        )
        self.measuring = MeasuringLoop(
            store,
            settings.model_name,
            self._ask_old,
            tolerance_s=settings.limits.future_s,
            on_failure=self.metrics.failed,
        )
        self.engine.observe = self.measuring.observe
        self.batcher = Batcher(
            self.engine.process,
            most=settings.batch.requests,
            queue=settings.limits.queue,
            between=self._between,
            on_batch=self.metrics.batch.observe,
            events_of=attrgetter("event_count"),
        )
        self._showing: Showing | None = None
        if exposures is not None:
            self._showing = Showing(
                self.batcher,
                exposures,
                models=lambda: self.engine.models,
                rules=lambda: self._rules(),
                experiments=lambda: self._experiments(),
            )

    def start(self) -> None:
        """Start following the promotion log and the settings files. Return after the first look at the log.

        If the store does not answer for `FIRST_LOOK_S`, the worker starts without a model.
        """
        until = time.monotonic() + FIRST_LOOK_S
        self.erasures.start(FIRST_LOOK_S)  # before any user is served
        self.follower.start(wait_s=max(until - time.monotonic(), 0.0))
        self._watching.start()
        self.outcomes.start()
        if self.histories is not None:
            self.histories.start()
        self._measure()
        self._update_gauges()

    def close(self) -> None:
        """Store and send what is still waiting. Do not wait for a version that is being loaded."""
        self.follower.stop()
        self._watching.stop()
        self.erasures.stop()
        if self.histories is not None:
            self.histories.stop()
        self.states.close()
        if self.exposures is not None:
            self.exposures.close()
        self.outcomes.close()
        self.measuring.close()
        self.follower.close(THREAD_S)
        self._watching.close(THREAD_S)
        self.erasures.close(THREAD_S)
        if self.histories is not None:
            self.histories.close(THREAD_S)

    def schema(self) -> DataSchema:
        """Return the properties of the data of the served versions. Raises ModelMissingError if none is served."""
        return self.engine.schema()

    def assign(self, user: int | str | None, version: str | None, now: int) -> Assignment:
        """Return which version answers a request.

        Args:
            user: The user as the team writes the id, if the request names one.
            version: The version that the request asks for, if any.
            now: UTC seconds.
        """
        if version is not None:
            return Assignment(version)
        if user is None:
            return Assignment(CHAMPION)
        assigned, underway = self._experiments().assign(user, now), self.follower.underway
        if underway is None or assigned.version != CHAMPION or not underway.is_new(user, now):
            return assigned
        return replace(assigned, canary=True)

    async def recommend(self, job: RecommendJob) -> Answer:
        """Return the ranking, and log it as an exposure if somebody sees it now."""
        unseen = (
            job.user is None
            or job.user in self.erasures
            or job.preview
            or job.time.is_hypothetical(self.settings.limits.future_s)
        )
        if self._showing is None or job.user is None:
            answer: Answer = await self.batcher.submit(job)
        else:
            answer = await self._showing.answer(job, seen=not unseen)
        self.metrics.labelled(self.metrics.answers, self.metrics.role_of(answer.version), answer.source).inc()
        if answer.last_event is not None:
            self.metrics.state_age.observe(max(job.time.at - answer.last_event, 0))
        return answer

    async def advance(self, events: Sequence[NewEvent], now: int) -> Sequence[EventResult]:
        """Store events of any users, and advance their users' states. Return what became of each event.

        Raises:
            OverloadedError: If it is not known yet who was erased, or if too many jobs wait.
        """
        if not self.erasures.known:
            raise OverloadedError("The store does not answer, so it is not known who was erased; try again in a moment.")
        kept = [event for event in events if event.user not in self.erasures]
        stored: Sequence[EventResult] = ()
        if kept:
            assignments = {
                event.user: self.assign(event.user if event.user_id is None else event.user_id, None, now) for event in kept
            }
            stored = await self.batcher.submit(EventJob(tuple(kept), assignments))
        results = list(stored)
        if len(kept) < len(events):
            champion, left, places = self.engine.serving().version, iter(results), {id(event) for event in kept}
            results = [next(left) if id(each) in places else EventResult(None, False, champion, erased=True) for each in events]
        for result in results:
            self.metrics.labelled(self.metrics.events, result.label).inc()
        return results

    def _ask_old(self, job: RecommendJob, then: Callable[[Answer | Exception], None]) -> None:
        """Let the old version of a rollout answer, too, when there is time. The answer is only compared."""
        if (underway := self.follower.underway) is not None:
            asked = replace(job, assignment=Assignment(underway.rollout.old), named=True, explain=False)
            self.batcher.offer(asked, then)

    async def erase(self, user: int, *, reason: str, by: str) -> Erasure:
        """Erase a user for good: here at once, and on other workers when they look.

        Raises:
            OverloadedError: If the store does not take the record. Nothing is erased then.
        """
        try:
            erasure = await asyncio.to_thread(lambda: self.erasures.erase(user, reason=reason, by=by))
        except StoreError as error:
            logger.warning("a user cannot be erased", extra={"reason": str(error)})
            raise OverloadedError("The store does not take the erasure, so nothing was erased; try again in a moment.") from error
        self._delete_erased()
        return erasure

    def _delete_erased(self) -> None:
        served = [model for _, model in self.engine.models.by_role()]
        self.erasures.delete_with(lambda users: self.engine.states.erase(users, served))

    async def take_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Return once the outcomes are on the disk. Raises OverloadedError if they cannot be stored now."""
        if outcomes:
            await self.outcomes.write(outcomes)
        for each in outcomes:
            self.metrics.outcomes.labels(each.kind).inc()

    def _between(self) -> None:
        """Update the gauges, and send events that are waiting for Redis. Called between batches."""
        try:
            self._update_gauges()
            self._delete_erased()
            self._measure()
            if isinstance(self.states, FailoverStates):
                self.states.recover()
        except Exception:
            self.metrics.failed("between")
            raise

    def _measure(self) -> None:
        """Measure the rollout that is under way, if there is one."""
        underway, refused = self.follower.underway, self.follower.refused
        why = refused.get(underway.version) if underway is not None else None
        self.measuring.follow(underway, why.reason if why is not None else "")

    def _update_gauges(self) -> None:
        metrics, follower = self.metrics, self.follower
        metrics.count(metrics.cache.labels("yes"), self.engine.answers.hits)
        metrics.count(metrics.cache.labels("no"), self.engine.answers.misses)
        metrics.cache_bytes.set(self.engine.answers.bytes)
        metrics.refused.set(len(follower.refused))
        metrics.log_read.set(follower.log_read or 0)
        metrics.count(metrics.looks_failed, follower.looks_failed)
        metrics.store_denied.set(follower.denied)
        for name, file in self._files.items():
            metrics.file_refused.labels(name).set(file.fault is not None)
        if isinstance(self.states, FailoverStates):
            metrics.unsent.set(self.states.unsent)
            metrics.count(metrics.lost, self.states.lost)
        if self.exposures is not None:
            metrics.count(metrics.exposures_dropped, self.exposures.dropped)

    def _look_at_files(self) -> bool:
        """Look at each file. A refused one is not a failed step: after that the loop would look less often, at the other file too."""
        for file in self._files.values():
            before = file.fault
            with self._changing:
                try:
                    file.look()
                except Exception:  # it harms this file only, and `fault` says so
                    if file.fault != before:
                        logger.exception("%s cannot be used", file.path)
        return True

    def _compile(self, rules: Rules) -> None:
        """Build the rules' masks for every served version, so that no request has to wait for it."""
        for _, model in self.engine.models.by_role():
            rules.warm(model.catalogue)

    def _report_outage(self, down: bool, why: str) -> None:
        self.metrics.redis_up.set(0 if down else 1)
        if down:
            self.metrics.outages.inc()
            logger.warning("Redis does not answer; serving from memory", extra={"reason": why})
        else:
            self.erasures.sweep()  # it may come from a backup
            logger.warning("Redis answers again")

    def _count_fault(self, key: str, why: str) -> None:
        self.metrics.redis_faults.inc()

    def _swap(self, models: Models) -> None:
        before = self.engine.models
        if self.histories is not None:
            self.histories.serve({model.dataset for _, model in models.by_role() if model.dataset})
        with self._changing:
            for _, model in models.by_role():
                self._rules().warm(model.catalogue)
            self.engine.models = models
        gc.freeze()  # a version's items, rules and weights live long; a garbage collection that scans them takes milliseconds
        self.metrics.show_models([(model.version, model.model.kind, role) for role, model in models.by_role()])
        if models.champion is not None:
            self.metrics.promotion.set(models.champion.number)
            if before.champion is not None and before.champion.version != models.champion.version:
                self.metrics.swaps.inc()
