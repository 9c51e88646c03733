"""Keeps pods and flow runs in agreement: one list of the account's pods at a steady pace, whatever happened in between.

It holds nothing that it could not find again: marks in the pods say whose they are, the runs' states say what is wanted. So
a worker that was killed goes on where it stopped, and several workers of one pool do not disturb each other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from configs.redaction import masked, secrets_of
from configs.runpod import RunPodSettings
from infra.runpod.client import RunPodClient
from infra.runpod.cost import PodCost
from infra.runpod.errors import RunPodError
from infra.runpod.order import Marks, marks_of, server_mark
from infra.runpod.pods import Pod
from infra.runpod.runs import Runs, RunsUnavailableError, RunView
from infra.runpod.verdict import Look, Memory, Verdict, judge, judge_age, judge_missing

__all__ = ["Hold", "Reconciler"]

LOG = logging.getLogger(__name__)
ACCOUNTS_EVERY = 100  # looks that did all that a look does


@dataclass
class Hold:
    """A run that this process works on."""

    withdrawn: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the run wants no pod: cancelled, ended otherwise, or deleted."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its pod is no more."""


@dataclass
class _Tracked:
    pod: Pod
    marks: Marks
    lived_until: datetime  # when it was last listed, or first not listed: it may have lived so long
    memory: Memory = field(default_factory=Memory)
    account: PodCost | None = None
    accounting: asyncio.Lock = field(default_factory=asyncio.Lock)


class Reconciler:
    """Watches the pods of one work pool; `forever` is its life, and each `look` one step of it.

    `worker` is this worker's name, `server` its Prefect server's address; `submits` tells whether it is about to work on a run.
    `adopts` is told, after each look, the pods that no `hold` of this process stands for and no other worker works on.
    """

    def __init__(
        self,
        client: RunPodClient,
        runs: Runs,
        pool: UUID,
        settings: RunPodSettings,
        worker: str,
        server: str = "",
        submits: Callable[[UUID], bool] = lambda run: False,
        adopts: Callable[[set[str]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._runs, self._pool, self._settings = client, runs, pool, settings
        self._worker, self._submits, self._adopts, self._clock = worker, submits, adopts, clock
        self._server = server_mark(server) if server else ""
        self._tracked: dict[str, _Tracked] = {}
        self._unsettled: dict[str, _Tracked] = {}  # are no more, and their last account is not kept yet
        self._held: dict[UUID, Hold] = {}
        self._without_pod: dict[tuple[UUID, datetime], Memory] = {}
        self._look = Look(clock(), clock())
        self._begun = self._listed = self._whole = 0
        self._has_listed = asyncio.Condition()

    def hold(self, run: UUID) -> Hold:
        """Say that this process works on the run, until `release`."""
        return self._held.setdefault(run, Hold())

    def release(self, run: UUID) -> None:
        self._held.pop(run, None)

    def follow(self, pod: Pod, marks: Marks) -> None:
        """Watch a pod that was just rented."""
        self._tracked.setdefault(pod.id, _Tracked(pod, marks, self._client.time()))

    async def open_account(self, pod: str) -> None:
        """Keep what a watched pod costs so far, unless that is kept already."""
        tracked = self._tracked.get(pod)
        if tracked is not None:
            await self._open_account(tracked)

    def pod_of(self, run: UUID, attempt: int) -> Pod | None:
        """The run's pod of that attempt among those that are watched."""
        own = [
            t.pod for t in self._tracked.values() if t.marks.run == run and t.marks.attempt == attempt and not t.memory.missing
        ]
        return min(own, key=lambda pod: (str(pod.created_at), pod.id), default=None)

    async def next_look(self) -> None:
        """Return after the next list that is begun after this call and succeeds."""
        wanted = self._begun + 1
        async with self._has_listed:
            await self._has_listed.wait_for(lambda: self._listed >= wanted)

    async def forever(self) -> None:
        """Look again and again. What goes wrong in a look is logged, and the next one starts afresh."""
        while True:
            try:
                await self.look()
            except Exception:
                LOG.exception("A look at the pods of RunPod failed; the next one follows in %g s.", self._settings.look_every_s)
            await asyncio.sleep(self._settings.look_every_s)

    async def look(self) -> None:
        """List once, read the runs once, and do what the rules say. Where the list fails, nothing is concluded; where the
        runs cannot be read, only a pod's age counts."""
        known = set(self._tracked)
        self._begun += 1
        number, begun = self._begun, self._clock()
        try:
            listed = await self._client.list_pods()
        except RunPodError as error:
            LOG.warning("No look at the pods: %s", error)
            await self._tell_held()
            return
        self._look = Look(begun, self._clock())
        self._take_in(listed, known)
        async with self._has_listed:
            self._listed = max(self._listed, number)
            self._has_listed.notify_all()
        try:
            watched = [*self._tracked.values(), *self._unsettled.values()]
            read = await self._runs.look({tracked.marks.run for tracked in watched} | set(self._held))
        except RunsUnavailableError as error:
            LOG.warning("The flow runs cannot be read (%s); only the pods' age counts.", error)
            await self._each(self._end_old, list(self._tracked.values()))
            return
        # A server that is being restarted may answer minutes after the list. The containers' uptimes are of the list, so the runs'
        # ages must be too: a run that seems older than its container crashes.
        late_s = self._clock() - begun
        runs = {run_id: replace(run, age_s=run.age_s - late_s) for run_id, run in read.items()}
        self._tell_withdrawn(runs)
        await self._each(lambda tracked: self._settle(tracked, runs.get(tracked.marks.run)), list(self._unsettled.values()))
        await self._each(lambda tracked: self._reconcile(tracked, runs.get(tracked.marks.run)), list(self._tracked.values()))
        owned = {tracked.marks.run for tracked in self._tracked.values()}
        bare = [run for run in runs.values() if run.id not in owned and not run.final]
        self._without_pod = {(run.id, run.since): self._without_pod.get((run.id, run.since), Memory()) for run in bare}
        await self._each(self._reconcile_bare, bare)
        await self._tell_adopted(runs)
        self._whole += 1
        if self._whole % ACCOUNTS_EVERY == 1:
            await self._close_accounts()

    def _take_in(self, listed: list[Pod], known: set[str]) -> None:
        """Pods of this pool that were listed are watched; one that was known before the list and is not on it is missing."""
        present = {pod.id for pod in listed if pod.status != "TERMINATED"}
        for pod in listed:
            marks = marks_of(pod)
            if marks is None or marks.pool != self._pool or pod.id not in present:
                continue
            tracked = self._tracked.setdefault(pod.id, _Tracked(pod, marks, self._client.time()))
            if pod.created_at is None:  # its age must not be lost: nothing else ends the bill of a run that hangs
                pod = pod.model_copy(update={"created_at": tracked.pod.created_at or self._client.time()})
            tracked.pod, tracked.lived_until = pod, self._client.time()
            tracked.memory.see(pod, self._look, self._settings.uptime_slack_s)
        for pod_id in known - present:
            missed = self._tracked[pod_id]
            if not missed.memory.missing:
                missed.lived_until = self._client.time()  # RunPod may not have answered for long before
            missed.memory.missing += 1

    async def _tell_held(self) -> None:
        """That a run was cancelled can be told while RunPod does not answer."""
        if self._held:
            try:
                self._tell_withdrawn(await self._runs.look(set(self._held)))
            except RunsUnavailableError as error:
                LOG.warning("The flow runs cannot be read: %s", error)

    async def _tell_adopted(self, runs: dict[UUID, RunView]) -> None:
        if self._adopts is None:
            return
        others = {run.worker for run in runs.values() if run.worker is not None} - {self._worker}
        try:
            at_work = {name for name in sorted(others) if await self._runs.at_work(name)}
        except RunsUnavailableError as error:
            LOG.warning("Who works on the pods cannot be read: %s", error)
            return
        free = [t for t in self._tracked.values() if t.marks.run not in self._held]
        self._adopts({t.pod.id for t in free if (run := runs.get(t.marks.run)) is None or run.worker not in at_work})

    def _tell_withdrawn(self, runs: dict[UUID, RunView]) -> None:
        for run_id, hold in self._held.items():
            run = runs.get(run_id)
            if run is None or run.final or run.state == "CANCELLING":
                hold.withdrawn.set()

    async def _each(self, act: Callable[..., object], subjects: list[_Tracked] | list[RunView]) -> None:
        """`act` on all at once; what fails for one is logged and tried again in the next look."""

        async def attempt(subject: _Tracked | RunView) -> None:
            name = subject.marks.name if isinstance(subject, _Tracked) else f"the run {subject.name}"
            try:
                await act(subject)  # type: ignore[misc]
            except (RunPodError, RunsUnavailableError) as error:
                LOG.warning("%s is left to the next look: %s", name, error)
            except Exception:  # of one; the others' pods must not be left running for it
                LOG.exception("%s is left to the next look.", name)

        await asyncio.gather(*[attempt(subject) for subject in subjects])

    async def _reconcile(self, tracked: _Tracked, run: RunView | None) -> None:
        pod, memory, now = tracked.pod, tracked.memory, self._client.time()
        if run is not None:
            memory.runless = 0
            memory.see_run(run, self._look)
        elif tracked.marks.server in ("", self._server):
            memory.runless += 1
        else:  # a copy of a server's database has its pools, and not its later runs
            LOG.warning("The run of pod %s is unknown here, and the pod was rented for another Prefect server.", pod.id)
        if memory.missing:
            await self._reconcile_missing(tracked, run)
            return
        if tracked.account is None and run is not None:
            await self._open_account(tracked)
        verdict = judge(pod, tracked.marks, run, memory, self._look, now, self._settings)
        if verdict.action == "keep":
            chosen = None if run is None or run.pod is not None else self.pod_of(run.id, tracked.marks.attempt)
            if run is not None and chosen is not None and chosen.id == pod.id:  # of two, all workers choose the same one
                await self._runs.assign(run, pod.id)
                LOG.info("pod %s is adopted for the run %s", pod.id, run.name)
            return
        if run is not None:
            try:
                await self._mark(run, verdict, tracked)
            except RunsUnavailableError as error:
                if judge_age(pod, tracked.marks, now).action == "keep":
                    raise
                LOG.warning("The run %s is not told why its pod is deleted: %s", run.name, error)
        await self._delete(tracked, verdict.why)

    async def _reconcile_missing(self, tracked: _Tracked, run: RunView | None) -> None:
        if tracked.memory.missing < self._settings.looks_to_miss:
            return
        if run is not None and not run.final and run.pod in (tracked.pod.id, None) and not run.released:
            await self._mark(run, judge_missing(run, tracked.memory, self._settings), tracked)
        await self._close(tracked, tracked.lived_until, "gone by itself; counted until it was missed")

    async def _reconcile_bare(self, run: RunView) -> None:
        """A run that a worker has taken and that has no pod."""
        memory = self._without_pod[run.id, run.since]
        memory.missing += 1
        memory.see_run(run, self._look)
        if run.id in self._held or memory.missing < self._settings.looks_to_miss or run.released or run.state == "SCHEDULED":
            return
        if run.pod is not None and not (run.state == "PENDING" and run.begun):
            for account in await self._runs.accounts(run.id):
                if account.pod == run.pod and not account.closed:
                    await self._runs.account(
                        run.id, account.until(self._client.time(), closed=True, note="gone while no worker watched")
                    )
            await self._mark(run, judge_missing(run, memory, self._settings), None)
        elif run.state == "CANCELLING":
            await self._runs.cancel(run, "The run was cancelled before it had a pod.")
        elif run.state == "PENDING" and await self._is_lost(run, memory):
            await self._runs.resubmit(run, f"The worker {run.worker} ended before it had rented a pod.")

    async def _is_lost(self, run: RunView, memory: Memory) -> bool:
        """Whether the worker that took it has ended."""
        if self._look.ended - memory.since < self._settings.lost_after_s or self._submits(run.id):
            return False
        return run.worker in (None, self._worker) or not await self._runs.at_work(run.worker)

    async def _end_old(self, tracked: _Tracked) -> None:
        verdict = judge_age(tracked.pod, tracked.marks, self._client.time())
        if verdict.action != "keep" and not tracked.memory.missing:
            await self._delete(tracked, verdict.why)

    async def _mark(self, run: RunView, verdict: Verdict, tracked: _Tracked | None) -> None:
        if verdict.action == "cancel":
            await self._runs.cancel(run, verdict.why)
        elif verdict.action == "crash":
            lines = await self._log_tail(tracked) if tracked is not None and verdict.with_log else []
            try:
                if lines:
                    await self._runs.log(run.id, [f"The last lines of the pod {run.pod}:", *lines])
            except RunsUnavailableError as error:  # the message has the last of them
                LOG.warning("The run %s does not get the last lines of its pod: %s", run.name, error)
            await self._runs.crash(run, verdict.why + (f" Its log ends: {' | '.join(lines)[-600:]}" if lines else ""))

    async def _log_tail(self, tracked: _Tracked) -> list[str]:
        """Without what the pod's environment calls secret."""
        secrets = secrets_of(tracked.pod.env)
        return [masked(line, secrets) for line in await self._client.log_tail(tracked.pod.id, self._settings.log_lines)]

    async def _delete(self, tracked: _Tracked, why: str) -> None:
        LOG.info("pod %s of %s is deleted: %s", tracked.pod.id, tracked.marks.name, why)
        await self._keep_account(tracked, self._client.time(), closed=False)  # a worker that is killed now leaves the figures
        await self._client.delete_pod(tracked.pod.id)
        await self._close(tracked, self._client.time(), "")

    async def _close(self, tracked: _Tracked, when: datetime, note: str) -> None:
        del self._tracked[tracked.pod.id]
        await self._keep_account(tracked, when, closed=True, note=note)
        hold = self._held.get(tracked.marks.run)
        if hold is not None and self.pod_of(tracked.marks.run, tracked.marks.attempt) is None:
            hold.gone.set()

    async def _open_account(self, tracked: _Tracked) -> None:
        async with tracked.accounting:  # who rented it and the look that finds it may be here at once
            if tracked.account is not None:
                return
            try:
                kept = {account.pod: account for account in await self._runs.accounts(tracked.marks.run)}
                account = kept.get(tracked.pod.id)
                if account is None:
                    account = PodCost.of(tracked.pod, self._client.time())
                    await self._runs.account(tracked.marks.run, account)
                tracked.account = account
            except RunsUnavailableError as error:
                LOG.warning("The account of pod %s is opened later: %s", tracked.pod.id, error)

    async def _close_accounts(self) -> None:
        """A worker that was killed right after a deletion has left an account open."""
        try:
            for run, account in await self._runs.open_accounts():
                if account.pod not in self._tracked and account.pod not in self._unsettled:
                    now = {each.pod: each for each in await self._runs.accounts(run.id)}.get(account.pod, account)
                    if now.closed:  # meanwhile, by who deleted it
                        continue
                    account, last = now, max(run.since, now.ended)
                    await self._runs.account(run.id, account.until(last, closed=True, note="closed by a later worker"))
        except RunsUnavailableError as error:
            LOG.warning("Accounts that are open are left so: %s", error)

    async def _keep_account(self, tracked: _Tracked, when: datetime, *, closed: bool, note: str = "") -> None:
        """A figure that cannot be kept must not keep a pod alive; the last one is kept by a later look."""
        async with tracked.accounting:
            account = tracked.account or PodCost.of(tracked.pod, when)
            tracked.account = account.until(when, closed=closed, note=note)
            if closed:
                self._unsettled[account.pod] = tracked
            try:
                await self._runs.account(tracked.marks.run, tracked.account)
            except RunsUnavailableError as error:
                LOG.warning("Pod %s cost %.4f USD, which could not be kept yet: %s", account.pod, tracked.account.usd, error)
                return
            self._unsettled.pop(account.pod, None)

    async def _settle(self, tracked: _Tracked, run: RunView | None) -> None:
        """Keep the last account of a pod that is no more; that of a run that is no more is nobody's."""
        if run is not None and tracked.account is not None:
            await self._runs.account(run.id, tracked.account)
        self._unsettled.pop(tracked.pod.id, None)
