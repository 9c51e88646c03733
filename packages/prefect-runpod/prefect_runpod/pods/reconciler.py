"""Keep pods and flow runs in agreement. At a steady pace, each check (`look`) takes one list of the account's pods.

The reconciler holds no state that it could not recover. The marks in the pods show which run they belong to, and the states of
the runs show what is wanted. So a killed worker continues where it stopped, and several workers of one pool do not disturb each
other.

A list is a hint. A pod counts as gone only if RunPod answers 404 for that pod, and it is deleted all the same: an unlisted pod is
billed too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from prefect_runpod.api import Pod, PodNotFoundError, RunPodClient, RunPodError
from prefect_runpod.pods.cost_records import CostRecords
from prefect_runpod.pods.order import Marks, marks_of, server_mark
from prefect_runpod.pods.runs import Runs, RunsUnavailableError, RunView
from prefect_runpod.pods.tracked import Tracked
from prefect_runpod.pods.verdict import Look, Memory, Verdict, judge, judge_age, judge_gone, judge_limits
from prefect_runpod.settings import RunPodSettings
from prefect_runpod.texts.redaction import masked, secrets_of

__all__ = ["Hold", "Reconciler", "Watcher"]

LOG = logging.getLogger(__name__)
ACCOUNTS_EVERY = 100  # complete checks between two searches for open cost records
ASKED_AT_MOST = 5  # single pods that one check asks for: a list without any pod must not use up the account's requests


@dataclass
class Hold:
    """A run that this process works on."""

    withdrawn: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the run does not need a pod: it was cancelled, has ended, or was deleted."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the run's pod does not exist any more."""
    rented: bool = False
    """Whether a pod was rented for the run and kept."""
    too_dear: set[str] = field(default_factory=set)
    """GPU types whose pods were billed above the maximum price."""


@dataclass(frozen=True)
class Watcher:
    """The process that reconciles."""

    worker: str
    """Name of the worker."""
    server: str = ""
    """Address of its Prefect server."""
    submits: Callable[[UUID], bool] = lambda run: False
    """Returns whether this worker is about to work on a run."""
    adopts: Callable[[set[str]], None] | None = None
    """Called after each check with the pods that belong to no `hold` of this process and that no other worker works on."""


class Reconciler:
    """Watches the pods of one work pool. `forever` repeats `look`, and each `look` is one check."""

    def __init__(
        self,
        client: RunPodClient,
        runs: Runs,
        pool: UUID,
        settings: RunPodSettings,
        watcher: Watcher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._runs, self._pool, self._settings = client, runs, pool, settings
        self._watcher, self._clock = watcher, clock
        self._server = server_mark(watcher.server) if watcher.server else ""
        self._records = CostRecords(runs, client.time)
        self._tracked: dict[str, Tracked] = {}
        self._held: dict[UUID, Hold] = {}
        self._without_pod: dict[tuple[UUID, datetime], Memory] = {}
        self._look = Look(clock(), clock())
        self._begun = self._listed = self._until_search = self._asks_left = self._failed_lists = 0
        self.ended: set[str] = set()
        """The pods that this reconciler has deleted or found gone."""
        self._has_listed = asyncio.Condition()

    def hold(self, run: UUID) -> Hold:
        """Register that this process works on the run, until `release`."""
        return self._held.setdefault(run, Hold())

    def release(self, run: UUID) -> None:
        self._held.pop(run, None)

    def follow(self, pod: Pod, marks: Marks) -> None:
        """Watch a pod that was just rented."""
        self._tracked.setdefault(pod.id, Tracked(pod, marks, self._client.time()))
        if marks.run in self._held:
            self._held[marks.run].rented = True

    async def reject(self, pod: Pod, marks: Marks) -> None:
        """Delete a pod that was just rented and is too dear. If that fails, later checks delete it. Raises RunPodError."""
        tracked = self._tracked.setdefault(pod.id, Tracked(pod, marks, self._client.time()))
        self._note_price(tracked)
        await self._client.delete_pod(pod.id)
        await self._close(tracked, self._client.time(), "billed above max_price_per_hour")

    def too_dear(self, run: UUID) -> set[str]:
        """Return the GPU types whose pods were billed above the maximum price for a run that this process works on."""
        return self._held[run].too_dear if run in self._held else set()

    async def open_account(self, pod: str) -> None:
        """Store the cost so far of a watched pod, unless it is stored already."""
        tracked = self._tracked.get(pod)
        if tracked is not None:
            await self._records.open(tracked)

    def pod_of(self, run: UUID, attempt: int) -> Pod | None:
        """Return the oldest watched pod of the run's attempt that is not too dear, or None if there is none."""
        all_ = [t for t in self._tracked.values() if t.marks.run == run and t.marks.attempt == attempt]
        own = [t.pod for t in all_ if not t.memory.missing and not t.marks.too_dear(t.pod.cost)]
        return min(own, key=lambda pod: (str(pod.created_at), pod.id), default=None)

    async def next_look(self) -> None:
        """Wait for the next successful list that starts after this call."""
        wanted = self._begun + 1
        async with self._has_listed:
            await self._has_listed.wait_for(lambda: self._listed >= wanted)

    async def forever(self) -> None:
        """Check again and again. An error in a check is logged, and the next check starts from scratch."""
        while True:
            try:
                await self.look()
            except Exception:
                LOG.exception("A check of the RunPod pods failed; the next one follows in %g s.", self._settings.look_every_s)
            await asyncio.sleep(self._settings.look_every_s)

    async def look(self) -> None:
        """List the pods once, read the runs once, and apply the rules.

        If the list fails, runs that have ended and limits that are reached still end a bill. Without the runs, only limits count.
        """
        self._asks_left = ASKED_AT_MOST
        begun = self._clock()
        listed = await self._list()
        try:
            watched = [*self._tracked.values(), *self._records.unsettled]
            read = await self._runs.look({tracked.marks.run for tracked in watched} | set(self._held))
        except RunsUnavailableError as error:
            LOG.warning("The flow runs cannot be read (%s); only the limits of the pods count.", error)
            await self._each(self._end_by_limits, list(self._tracked.values()))
            return
        # A server that is being restarted may answer minutes after the list. The containers' uptimes date from the list, so the
        # ages of the runs must too: a run that seems older than its container is marked crashed.
        late_s = self._clock() - begun
        runs = {run_id: replace(run, age_s=run.age_s - late_s) for run_id, run in read.items()}
        self._tell_withdrawn(runs)
        await self._each(lambda tracked: self._records.settle(tracked, runs.get(tracked.marks.run)), self._records.unsettled)
        longest_unasked_first = sorted(self._tracked.values(), key=lambda tracked: tracked.asked)
        await self._each(lambda tracked: self._reconcile(tracked, runs.get(tracked.marks.run), listed), longest_unasked_first)
        if not listed:
            return
        owned = {tracked.marks.run for tracked in self._tracked.values()}
        bare = [run for run in runs.values() if run.id not in owned and not run.final]
        self._without_pod = {(run.id, run.since): self._without_pod.get((run.id, run.since), Memory()) for run in bare}
        await self._each(self._reconcile_bare, bare)
        await self._tell_adopted(runs)
        self._until_search -= 1
        if self._until_search <= 0 and await self._records.close_left_open(self._tracked):
            self._until_search = ACCOUNTS_EVERY

    async def _list(self) -> bool:
        """List the pods. Returns False if that fails."""
        known = set(self._tracked)
        self._begun += 1
        number, begun = self._begun, self._clock()
        try:
            listed = await self._client.list_pods()
        except RunPodError as error:
            LOG.warning("The pods cannot be listed: %s", error)
            self._failed_lists += 1
            return False
        finally:
            self._look = Look(begun, self._clock())
        self._failed_lists = 0
        self._take_in(listed, known)
        async with self._has_listed:
            self._listed = max(self._listed, number)
            self._has_listed.notify_all()
        return True

    def _take_in(self, listed: list[Pod], known: set[str]) -> None:
        """Watch the listed pods of this pool. A pod that was known before the list but is not on it counts as missing."""
        present = {pod.id for pod in listed if pod.status != "TERMINATED"}
        for pod in listed:
            marks = marks_of(pod)
            if marks is None or marks.pool != self._pool or pod.id not in present:
                continue
            tracked = self._tracked.setdefault(pod.id, Tracked(pod, marks, self._client.time()))
            self._see(tracked, pod)
            tracked.memory.see(pod, self._look, self._settings.uptime_slack_s)
        for pod_id in known - present:
            missed = self._tracked[pod_id]
            if not missed.memory.missing:
                missed.lived_until = self._client.time()  # RunPod may not have answered for a long time
            missed.memory.missing += 1

    def _see(self, tracked: Tracked, pod: Pod) -> None:
        if pod.created_at is None:  # keep its age: nothing else ends the bill of a run that hangs
            pod = pod.model_copy(update={"created_at": tracked.pod.created_at or self._client.time()})
        tracked.pod, tracked.lived_until = pod, self._client.time()

    def _note_price(self, tracked: Tracked) -> None:
        """Remember the GPU type of a pod that is too dear, so that it is not rented for the run again."""
        if tracked.marks.run in self._held and tracked.marks.too_dear(tracked.pod.cost):
            self._held[tracked.marks.run].too_dear.add(tracked.pod.gpu)

    async def _tell_adopted(self, runs: dict[UUID, RunView]) -> None:
        if self._watcher.adopts is None:
            return
        others = {run.worker for run in runs.values() if run.worker is not None} - {self._watcher.worker}
        try:
            at_work = {name for name in sorted(others) if await self._runs.at_work(name)}
        except RunsUnavailableError as error:
            LOG.warning("The workers of the pods cannot be read: %s", error)
            return
        free = [t for t in self._tracked.values() if t.marks.run not in self._held]
        self._watcher.adopts({t.pod.id for t in free if (run := runs.get(t.marks.run)) is None or run.worker not in at_work})

    def _tell_withdrawn(self, runs: dict[UUID, RunView]) -> None:
        for run_id, hold in self._held.items():
            run = runs.get(run_id)
            if run is None or run.final or run.state == "CANCELLING":
                hold.withdrawn.set()

    async def _each(self, act: Callable[..., object], subjects: list[Tracked] | list[RunView]) -> None:
        """Call `act` on all subjects at once. A failure is logged and tried again in the next check."""

        async def attempt(subject: Tracked | RunView) -> None:
            name = subject.marks.name if isinstance(subject, Tracked) else f"the run {subject.name}"
            try:
                await act(subject)  # type: ignore[misc]
            except (RunPodError, RunsUnavailableError) as error:
                LOG.warning("%s is left to the next check: %s", name, error)
            except Exception:  # an error with one subject must not leave the pods of the others running
                LOG.exception("%s is left to the next check.", name)

        await asyncio.gather(*[attempt(subject) for subject in subjects])

    async def _reconcile(self, tracked: Tracked, run: RunView | None, listed: bool) -> None:
        """Apply the rules to a watched pod. `listed` is whether the last list succeeded."""
        memory = tracked.memory
        if run is not None:
            memory.runless = 0
            memory.see_run(run, self._look)
        elif tracked.marks.server in ("", self._server):
            memory.runless += 1
        else:  # a copy of a server's database has its pools, but not its later runs
            LOG.warning("The run of pod %s is unknown here, and the pod was rented for another Prefect server.", tracked.pod.id)
        seen = listed and not memory.missing
        if seen and tracked.cost is None and run is not None:
            await self._records.open(tracked)
        # Without a list, the uptime is out of date, and would look like that of a restarted container.
        pod = tracked.pod if seen else tracked.pod.model_copy(update={"uptime_s": None})
        verdict = judge(pod, tracked.marks, run, memory, self._look, self._client.time(), self._settings)
        doubtful = memory.is_doubtful or max(memory.missing, self._failed_lists) >= self._settings.looks_to_miss
        if verdict.by_list or (verdict.action == "keep" and doubtful):
            verdict = await self._judge_by_itself(tracked, run)
        if verdict.action == "keep":
            await self._adopt(tracked, run)
            return
        self._note_price(tracked)
        if run is not None:
            try:
                await self._mark(run, verdict, tracked)
            except RunsUnavailableError as error:
                if judge_limits(tracked.pod, tracked.marks, self._client.time()).action == "keep":
                    raise
                LOG.warning("The run %s cannot be marked before its pod is deleted: %s", run.name, error)
        await self._delete(tracked, verdict.why)

    async def _judge_by_itself(self, tracked: Tracked, run: RunView | None) -> Verdict:
        """Return the verdict on a pod by its own answer. If RunPod does not answer, only the pod's age counts."""
        begun = self._clock()
        try:
            pod = await self._ask(tracked.pod.id)
        except RunPodError as error:
            LOG.warning("The pod %s is left to the next check: %s", tracked.pod.id, error)
            return judge_age(tracked.pod, tracked.marks, self._client.time())
        tracked.asked = self._clock()
        if pod is None:
            tracked.memory.missing = max(1, tracked.memory.missing)
            if run is None or run.final or run.released or run.pod not in (tracked.pod.id, None):
                return Verdict("delete", "it is gone")
            return judge_gone(replace(run, pod=tracked.pod.id))
        self._see(tracked, pod)
        look = Look(begun, tracked.asked)
        tracked.memory.see_itself(pod, look, self._settings.uptime_slack_s)
        return judge(tracked.pod, tracked.marks, run, tracked.memory, look, self._client.time(), self._settings)

    async def _ask(self, pod_id: str) -> Pod | None:
        """Return a pod by its own answer, or None if it does not exist any more.

        Raises RunPodError if RunPod does not answer, or if this check has asked for enough pods.
        """
        if self._asks_left == 0:
            raise RunPodError(f"This check has asked for {ASKED_AT_MOST} pods already.")
        self._asks_left -= 1
        try:
            pod = await self._client.get_pod(pod_id, attempts=1)
        except PodNotFoundError:
            return None
        return None if pod.status == "TERMINATED" else pod

    async def _adopt(self, tracked: Tracked, run: RunView | None) -> None:
        """Name the pod in its run, if the run names none. Of two pods, all workers choose the same one."""
        chosen = None if run is None or run.pod is not None else self.pod_of(run.id, tracked.marks.attempt)
        if run is not None and chosen is not None and chosen.id == tracked.pod.id:
            await self._runs.assign(run, tracked.pod.id)
            LOG.info("pod %s is adopted for the run %s", tracked.pod.id, run.name)

    async def _reconcile_bare(self, run: RunView) -> None:
        """Handle a run that a worker has taken but whose pod is not watched."""
        memory = self._without_pod[run.id, run.since]
        memory.missing += 1
        memory.see_run(run, self._look)
        if run.id in self._held or memory.missing < self._settings.looks_to_miss or run.released or run.state == "SCHEDULED":
            return
        if run.pod is not None and not (run.state == "PENDING" and run.begun):
            await self._find(run, run.pod)
        elif run.state == "CANCELLING":
            await self._runs.cancel(run, "The run was cancelled before it had a pod.")
        elif run.state == "PENDING" and await self._is_lost(run, memory):
            await self._runs.resubmit(run, f"The worker {run.worker} stopped before it had rented a pod.")

    async def _find(self, run: RunView, pod_id: str) -> None:
        """Watch the pod that a run names and no list shows. If it does not exist, mark the run."""
        pod = await self._ask(pod_id)
        if pod is None:
            await self._client.delete_pod(pod_id)
            await self._records.close(run, "disappeared while no worker watched")
            await self._mark(run, judge_gone(run), None)
        elif (marks := marks_of(pod)) is not None and marks.pool == self._pool:
            self._tracked.setdefault(pod.id, Tracked(pod, marks, self._client.time()))
        else:
            LOG.warning("The run %s names the pod %s, which is not a pod of this work pool.", run.name, pod_id)

    async def _is_lost(self, run: RunView, memory: Memory) -> bool:
        """Return whether the worker that took the run has stopped."""
        if self._look.ended - memory.since < self._settings.lost_after_s or self._watcher.submits(run.id):
            return False
        return run.worker in (None, self._watcher.worker) or not await self._runs.at_work(run.worker)

    async def _end_by_limits(self, tracked: Tracked) -> None:
        verdict = judge_limits(tracked.pod, tracked.marks, self._client.time())
        if verdict.by_list:
            verdict = await self._judge_by_itself(tracked, None)
        if verdict.action != "keep":
            await self._delete(tracked, verdict.why)

    async def _mark(self, run: RunView, verdict: Verdict, tracked: Tracked | None) -> None:
        if verdict.action == "cancel":
            await self._runs.cancel(run, verdict.why)
        elif verdict.action == "crash":
            lines = await self._log_tail(tracked) if tracked is not None and verdict.with_log else []
            try:
                if lines:
                    await self._runs.log(run.id, [f"The last lines of the pod {run.pod}:", *lines])
            except RunsUnavailableError as error:  # the message below has the last of them
                LOG.warning("The last lines of the pod cannot be added to the log of the run %s: %s", run.name, error)
            await self._runs.crash(run, verdict.why + (f" Its log ends: {' | '.join(lines)[-600:]}" if lines else ""))

    async def _log_tail(self, tracked: Tracked) -> list[str]:
        """Return the last lines of the pod's log, with the secrets of its environment masked."""
        secrets = secrets_of(tracked.pod.env)
        return [masked(line, secrets) for line in await self._client.log_tail(tracked.pod.id, self._settings.log_lines)]

    async def _delete(self, tracked: Tracked, why: str) -> None:
        """Delete the pod, also if it seems to be gone."""
        LOG.info("pod %s of %s is deleted: %s", tracked.pod.id, tracked.marks.name, why)
        if not tracked.memory.missing:
            # The figures survive if the worker is killed now.
            await self._records.keep(tracked, self._client.time(), closed=False)
        existed = await self._client.delete_pod(tracked.pod.id)
        if existed or not tracked.memory.missing:
            await self._close(tracked, self._client.time(), "")
        else:
            await self._close(tracked, tracked.lived_until, "disappeared by itself; counted until it was missed")

    async def _close(self, tracked: Tracked, when: datetime, note: str) -> None:
        if self._tracked.pop(tracked.pod.id, None) is None:
            return  # the task that rented the pod and a check may get here at the same time
        self.ended.add(tracked.pod.id)
        await self._records.keep(tracked, when, closed=True, note=note)
        hold = self._held.get(tracked.marks.run)
        if hold is not None and hold.rented and self.pod_of(tracked.marks.run, tracked.marks.attempt) is None:
            hold.gone.set()
