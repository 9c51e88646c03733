"""What is to be done with a pod: a pure function of the pod, its run, and what earlier looks have seen.

Facts of RunPod that the rules rest on: a container that exits, with whatever status, is started again; its status stays
RUNNING and only `runtime.uptime` begins anew; nothing but a deletion ends the bill.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from configs.runpod import RunPodSettings
from infra.runpod.order import Marks
from infra.runpod.pods import ENDED, Pod
from infra.runpod.runs import RunView

__all__ = ["KEEP", "Look", "Memory", "Verdict", "judge", "judge_age", "judge_missing"]


@dataclass(frozen=True)
class Look:
    """When a list was taken, in seconds of a clock of this machine that nobody sets: a figure in it is of some moment between."""

    begun: float
    ended: float


@dataclass
class Memory:
    """What earlier looks have seen of a pod and its run. All of it is by one clock, that of the looks: what this machine, RunPod
    and the Prefect server take for the time of day does not matter."""

    started: float | None = None
    """Latest moment at which the container can have started, by the look that says the earliest; None before the first."""
    restarts: int = 0
    restarted: float | None = None
    """Earliest moment at which the container can have started last; None where it was not seen to restart."""
    missing: int = 0
    """Consecutive looks in which the pod was not listed."""
    runless: int = 0
    """Consecutive looks in which its flow run did not exist."""
    state: str = ""
    """Of the run, at the last look."""
    since: float = 0.0
    """First look that saw the run in that state."""

    def see(self, pod: Pod, look: Look, slack_s: float) -> None:
        """Take in that the pod was listed.

        A container that only grows older always tells of the same start, give or take the seconds that are rounded off, those
        that a look takes, and `slack_s` by which RunPod's figure may lag. One that tells of a later start has been started again,
        even where its uptime has not fallen between two looks; a start that creeps is measured from the earliest that was told.
        """
        self.missing = 0
        if pod.uptime_s is None:
            return
        earliest, latest = look.begun - pod.uptime_s - ROUNDED_S, look.ended - pod.uptime_s
        if self.started is not None and earliest - slack_s > self.started:
            self.restarts, self.restarted, self.started = self.restarts + 1, earliest - slack_s, latest
        self.started = latest if self.started is None else min(self.started, latest)

    def see_run(self, run: RunView, look: Look) -> None:
        """Take in the run's state."""
        if run.state != self.state:
            self.state, self.since = run.state, look.ended


@dataclass(frozen=True)
class Verdict:
    """`keep`, `delete`, or delete once the run is marked `crash` or `cancel`; `why` is for people."""

    action: Literal["keep", "delete", "crash", "cancel"]
    why: str = ""
    with_log: bool = field(default=False)
    """The log's last lines explain it."""


KEEP = Verdict("keep")
ROUNDED_S = 1.0  # RunPod tells whole seconds


def judge(
    pod: Pod, marks: Marks, run: RunView | None, memory: Memory, look: Look, now: datetime, settings: RunPodSettings
) -> Verdict:
    """The first rule that applies, for a pod that the last look has listed. `run` is None where it does not exist; `now` is the
    time as RunPod's clock tells it."""
    if run is None:
        gone = memory.runless >= settings.looks_to_miss
        return Verdict("delete", "its flow run does not exist any more") if gone else judge_age(pod, marks, now)
    if run.final:
        return Verdict("delete", f"its flow run has ended ({run.state.lower()})")
    if run.released:
        return Verdict("delete", "its flow run was suspended or rescheduled, and will go on in another pod")
    if run.state == "PENDING" and marks.attempt < run.attempt:
        return Verdict("delete", "it belongs to an earlier attempt of its flow run")
    if run.pod is not None and run.pod != pod.id and run.state != "SCHEDULED":
        return Verdict("delete", f"its flow run belongs to the pod {run.pod}")
    if run.state == "CANCELLING":
        waited = look.ended - memory.since
        if not run.begun or waited > settings.cancel_grace_s:
            how = "before it had begun" if not run.begun else f"and had not ended itself {waited:.0f} s later"
            return Verdict("cancel", f"The run was cancelled {how}; its pod {pod.id} is deleted.")
        return KEEP
    if pod.status in ENDED:
        return Verdict("crash", f"The pod {pod.id} is {pod.status} while its run had not ended.", with_log=True)
    restarted = _restarted(pod, run, memory, look, settings)
    if restarted is not None:
        return restarted
    age = _age_s(pod, now)
    # A run that waits to try again in its process has a later attempt than the one that its pod was rented for.
    if run.state in ("PENDING", "SCHEDULED") and run.attempt <= marks.attempt and age > marks.startup_s:
        why = f"The run did not begin within {marks.startup_s} s (startup_timeout) of its pod {pod.id}."
        return Verdict("crash", f"{why} Most often the image is still being pulled, or cannot be.", with_log=True)
    return judge_age(pod, marks, now)


def judge_age(pod: Pod, marks: Marks, now: datetime) -> Verdict:
    """The one rule that holds even where nothing is known of the run: nothing else would end the bill."""
    age, most = _age_s(pod, now), marks.life_s(pod.cost)  # what is billed may be above the catalogue's price
    if age <= most:
        return KEEP
    why = f"The pod {pod.id} has lived for {age:.0f} s, and {most} s was the most by max_runtime and max_cost."
    return Verdict("crash", why)


def judge_missing(run: RunView, memory: Memory, settings: RunPodSettings) -> Verdict:
    """For a pod that the last look has not listed, of a run that has not ended."""
    if memory.missing < settings.looks_to_miss:
        return KEEP
    if run.state == "CANCELLING":
        return Verdict("cancel", f"The run was cancelled and its pod {run.pod} is gone.")
    return Verdict("crash", f"The pod {run.pod} is gone while its run had not ended: its host was lost, or somebody deleted it.")


def _restarted(pod: Pod, run: RunView, memory: Memory, look: Look, settings: RunPodSettings) -> Verdict | None:
    again = f"The container of the pod {pod.id} ended and RunPod started it again"
    if run.state == "RUNNING":
        seen = memory.restarted is not None and memory.restarted > memory.since
        # Where the run was at work before this worker looked, only the two clocks tell that its container is younger.
        unseen = pod.uptime_s is not None and pod.uptime_s + settings.restart_slack_s < run.age_s
        if seen or unseen:
            return Verdict("crash", f"{again} in the midst of the run: it was killed, most often for memory.", with_log=True)
    elif run.state == "PENDING" and memory.restarts >= settings.restarts_to_crash:
        return Verdict("crash", f"{again} {memory.restarts} times before the run had begun.", with_log=True)
    return None


def _age_s(pod: Pod, now: datetime) -> float:
    return 0.0 if pod.created_at is None else (now - pod.created_at).total_seconds()
