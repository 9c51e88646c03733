"""Decide what to do with a pod. The decision is a pure function of the pod, its run, and what earlier checks have seen.

The rules rest on these facts about RunPod. A container that exits is restarted, whatever its exit status. The status of the
pod stays RUNNING, and only `runtime.uptime` starts again from zero. Only a deletion ends the bill.

A list of pods is a hint: it may be empty, cut or out of date. So a verdict that rests on what a list says of a pod is marked, and
whoever acts on it asks for that pod itself first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from prefect_runpod.api import ENDED, Pod
from prefect_runpod.pods.order import Marks
from prefect_runpod.pods.runs import RunView
from prefect_runpod.settings import RunPodSettings

__all__ = ["KEEP", "Look", "Memory", "Verdict", "judge", "judge_age", "judge_gone", "judge_limits"]


@dataclass(frozen=True)
class Look:
    """When a list was taken, in seconds of this machine's monotonic clock.

    A figure in the list is from some moment between `begun` and `ended`.
    """

    begun: float
    ended: float


@dataclass
class Memory:
    """What earlier checks have seen of a pod and its run.

    All times are from the clock of the checks. The wall clocks of this machine, RunPod and the Prefect server do not matter.
    """

    started: float | None = None
    """Latest moment at which the container can have started, by the check that gives the earliest one. None before the first."""
    restarts: int = 0
    restarted: float | None = None
    """Earliest moment at which the last restart can have happened. None if no restart was seen."""
    missing: int = 0
    """Number of consecutive checks in which the pod was not listed."""
    runless: int = 0
    """Number of consecutive checks in which the flow run of the pod did not exist."""
    state: str = ""
    """State of the run at the last check."""
    since: float = 0.0
    """Time of the first check that saw the run in that state."""
    before: tuple[float | None, int, float | None] = (None, 0, None)
    """`started`, `restarts` and `restarted` before the last list."""

    def see(self, pod: Pod, look: Look, slack_s: float) -> None:
        """Record that the pod was listed.

        As long as a container only grows older, its uptime always implies the same start. The start is inexact by the rounded
        seconds, the duration of a check, and the `slack_s` by which RunPod's figure may lag. A later start means that the
        container was restarted, even if its uptime has not fallen between two checks. If the start creeps forward, it is
        measured from the earliest start seen.
        """
        if self.is_doubtful:  # nobody could ask the pod, and wrong lists must not add up
            self.started, self.restarts, self.restarted = self.before
        self.missing = 0
        self.before = (self.started, self.restarts, self.restarted)
        if pod.uptime_s is None:
            return
        earliest, latest = look.begun - pod.uptime_s - ROUNDED_S, look.ended - pod.uptime_s
        if self.started is not None and earliest - slack_s > self.started:
            self.restarts, self.restarted, self.started = self.restarts + 1, earliest - slack_s, latest
        self.started = latest if self.started is None else min(self.started, latest)

    def see_itself(self, pod: Pod, look: Look, slack_s: float) -> None:
        """Record the pod's own answer, in place of what the last list said of it."""
        self.started, self.restarts, self.restarted = self.before
        self.see(pod, look, slack_s)
        self.before = (self.started, self.restarts, self.restarted)

    @property
    def is_doubtful(self) -> bool:
        """Whether the last list says that the container was restarted, and the pod itself was not asked."""
        return self.restarts > self.before[1]

    def see_run(self, run: RunView, look: Look) -> None:
        """Record the run's state."""
        if run.state != self.state:
            self.state, self.since = run.state, look.ended


@dataclass(frozen=True)
class Verdict:
    """Keep or delete a pod. `crash` and `cancel` mark the run first, and then delete the pod. `why` is for people."""

    action: Literal["keep", "delete", "crash", "cancel"]
    why: str = ""
    with_log: bool = field(default=False)
    """Whether the last lines of the log explain the verdict."""
    by_list: bool = field(default=False)
    """Whether the verdict rests on what RunPod says of the pod, which a list may have wrong."""


KEEP = Verdict("keep")
ROUNDED_S = 1.0  # RunPod reports whole seconds


def judge(
    pod: Pod, marks: Marks, run: RunView | None, memory: Memory, look: Look, now: datetime, settings: RunPodSettings
) -> Verdict:
    """Return the verdict of the first rule that applies to a pod in the last list.

    Args:
        pod: The pod.
        marks: Its marks.
        run: Its flow run, or None if the run does not exist.
        memory: What earlier checks have seen of both.
        look: When the last list was taken.
        now: The current time by RunPod's clock.
        settings: Limits of the rules.
    """
    if run is None:
        gone = memory.runless >= settings.looks_to_miss
        return Verdict("delete", "its flow run does not exist any more") if gone else judge_limits(pod, marks, now)
    if run.final:
        return Verdict("delete", f"its flow run has ended ({run.state.lower()})")
    if run.released:
        return Verdict("delete", "its flow run was suspended or rescheduled, and will continue in another pod")
    if run.state == "PENDING" and marks.attempt < run.attempt:
        return Verdict("delete", "it belongs to an earlier attempt of its flow run")
    if run.pod is not None and run.pod != pod.id and run.state != "SCHEDULED":
        return Verdict("delete", f"its flow run belongs to the pod {run.pod}")
    if run.state == "CANCELLING":
        waited = look.ended - memory.since
        if not run.begun or waited > settings.cancel_grace_s:
            how = "before it had started" if not run.begun else f"and had not stopped by itself {waited:.0f} s later"
            return Verdict("cancel", f"The run was cancelled {how}; its pod {pod.id} is deleted.")
        return KEEP
    if run.pod != pod.id and marks.too_dear(pod.cost):  # another pod may be found for the run
        return replace(judge_limits(pod, marks, now), action="delete")
    if pod.status in ENDED:
        why = f"The pod {pod.id} is {pod.status}, but its run had not ended."
        return Verdict("crash", why, with_log=True, by_list=True)
    restarted = _restarted(pod, run, memory, look, settings)
    if restarted is not None:
        return restarted
    age = _age_s(pod, now)
    # A run that waits for a retry in the same process has a later attempt than the one that its pod was rented for.
    if run.state in ("PENDING", "SCHEDULED") and run.attempt <= marks.attempt and age > marks.startup_s:
        why = f"The run did not start within {marks.startup_s} s (startup_timeout) of the creation of its pod {pod.id}."
        return Verdict("crash", f"{why} Usually the image is still being pulled, or cannot be pulled.", with_log=True)
    return judge_limits(pod, marks, now)


def judge_limits(pod: Pod, marks: Marks, now: datetime) -> Verdict:
    """Return the verdict on the pod's price and age. It counts even if the run is unknown: nothing else would end the bill."""
    if marks.too_dear(pod.cost):
        why = f"The pod {pod.id} is billed at {pod.cost:g} USD per hour, above max_price_per_hour {marks.max_price:g}."
        return Verdict("crash", why, by_list=True)
    return judge_age(pod, marks, now)


def judge_age(pod: Pod, marks: Marks, now: datetime) -> Verdict:
    """Return the verdict on the pod's age, by its maximum runtime and, at the billed price, its maximum cost."""
    age, most = _age_s(pod, now), marks.life_s(pod.cost)  # the billed price may be above the catalogue's price
    if age <= most:
        return KEEP
    why = f"The pod {pod.id} has lived for {age:.0f} s, but max_runtime and max_cost allow at most {most} s."
    return Verdict("crash", why, by_list=age <= marks.max_runtime_s)


def judge_gone(run: RunView) -> Verdict:
    """Return the verdict on a run that has not ended and whose pod does not exist any more, by the pod's own answer."""
    if run.state == "CANCELLING":
        return Verdict("cancel", f"The run was cancelled and its pod {run.pod} is gone.")
    return Verdict("crash", f"The pod {run.pod} is gone, but its run had not ended: its host was lost, or somebody deleted it.")


def _restarted(pod: Pod, run: RunView, memory: Memory, look: Look, settings: RunPodSettings) -> Verdict | None:
    again = f"RunPod restarted the container of the pod {pod.id}"
    if run.state == "RUNNING":
        seen = memory.restarted is not None and memory.restarted > memory.since
        # If the run was running before this worker's first check, only the two clocks show that its container is younger.
        unseen = pod.uptime_s is not None and pod.uptime_s + settings.restart_slack_s < run.age_s
        if seen or unseen:
            why = f"{again} during the run: it was killed, usually for lack of memory."
            return Verdict("crash", why, with_log=True, by_list=True)
    elif run.state == "PENDING" and memory.restarts >= settings.restarts_to_crash:
        why = f"{again} {memory.restarts} times before the run had started."
        return Verdict("crash", why, with_log=True, by_list=True)
    return None


def _age_s(pod: Pod, now: datetime) -> float:
    return 0.0 if pod.created_at is None else (now - pod.created_at).total_seconds()
