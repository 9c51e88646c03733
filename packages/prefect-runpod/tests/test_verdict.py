"""Whether a container was restarted, concluded only from its uptime in whole seconds and the time between looks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from prefect_runpod.api import Pod
from prefect_runpod.pods.verdict import Look, Memory

SLACK_S = 10.0


@dataclass
class Container:
    """A container that starts at each time of `starts`. Its uptime is in whole seconds, and at most `lag` seconds old."""

    starts: list[float]
    memory: Memory = field(default_factory=Memory)

    def uptime(self, at: float) -> float | None:
        begun = [start for start in self.starts if start <= at]
        return float(int(at - begun[-1])) if begun else None

    def look(self, begun: float, ended: float, taken: float, lag: float = 0.0) -> None:
        """Look once. The figure is taken during the look, and is `lag` seconds old then, but not older than the container."""
        uptime = self.uptime(taken)
        if uptime is not None:
            uptime = max(0.0, uptime - int(lag))
        pod = Pod.model_validate({"id": "p", "status": "RUNNING", "runtime": None if uptime is None else {"uptime": uptime}})
        self.memory.see(pod, Look(begun, ended), SLACK_S)
        if self.memory.is_doubtful:
            self.memory.see_itself(pod, Look(begun, ended), SLACK_S)


pauses = st.lists(st.floats(0.1, 90), min_size=2, max_size=40)
parts = st.floats(0, 1)


@given(
    begins=st.floats(0, 60),
    pauses=pauses,
    takes=st.lists(st.tuples(st.floats(0, 20), parts, st.floats(0, SLACK_S - 1)), min_size=40, max_size=40),
)
def test_a_container_that_never_restarts_is_never_said_to_restart(
    begins: float, pauses: list[float], takes: list[tuple[float, float, float]]
) -> None:
    """It does not matter how irregular the looks are, how long they take, when in them the figure is taken, or how old it is."""
    container, now = Container([begins]), 0.0
    for pause, (takes_s, part, lag) in zip(pauses, takes, strict=False):
        now += pause
        container.look(now, now + takes_s, now + part * takes_s, lag)
        now += takes_s
    assert container.memory.restarts == 0 and container.memory.restarted is None


@given(
    every=st.floats(5, 60),
    period=st.floats(0.05, 1),
    takes=st.lists(st.tuples(st.floats(0, 2), parts), min_size=60, max_size=60),
    begins=st.floats(0, 60),
)
def test_a_restart_loop_shorter_than_the_pause_between_looks_is_noticed_after_a_few_looks(
    every: float, period: float, takes: list[tuple[float, float]], begins: float
) -> None:
    """Its uptime may rise from look to look, as that of a healthy container does, and may never fall."""
    container, now = Container([begins + number * period * every for number in range(6_000)]), begins + 1
    least = math.ceil((SLACK_S + 1 + 2 + 2) / every) + 2  # the slack, the rounding, and the time of the first and last look
    found = []
    for number, (takes_s, part) in zip(range(3 * least), takes, strict=False):
        container.look(now, now + takes_s, now + part * takes_s)
        if container.memory.restarts > len(found):
            found.append(number)
        now += takes_s + every
    assert len(found) >= min(3, 60 // least) and all(later - earlier <= least for earlier, later in pairwise([0, *found]))


@given(
    lives=st.lists(st.floats(SLACK_S + 6, 120), min_size=2, max_size=20),
    every=st.floats(0.2, 4),
    part=parts,
)
def test_each_restart_is_counted_once_if_looks_are_more_frequent_than_restarts(
    lives: list[float], every: float, part: float
) -> None:
    starts = [sum(lives[:number]) for number in range(len(lives))]
    container, now = Container(starts), 0.0
    while now < starts[-1] + 10:
        container.look(now, now + 0.1, now + part * 0.1)
        now += every
    assert container.memory.restarts == len(starts) - 1
    assert container.memory.restarted is not None and container.memory.restarted <= starts[-1]


@given(lives=st.lists(st.floats(1, 200), min_size=1, max_size=20), pauses=pauses)
def test_never_more_restarts_are_counted_than_there_were(lives: list[float], pauses: list[float]) -> None:
    container, now = Container([sum(lives[:number]) for number in range(len(lives))]), 0.0
    for pause in pauses:
        now += pause
        container.look(now, now + 0.5, now + 0.25)
        assert container.memory.restarts <= sum(0 < start <= now + 0.5 for start in container.starts)


def test_nothing_is_concluded_from_a_container_that_does_not_run() -> None:
    container = Container([30.0])
    for now in (0.0, 12.0, 24.0):
        container.look(now, now, now)
    assert container.memory.started is None
    container.look(36.0, 36.0, 36.0)
    assert container.memory.started == 30.0
