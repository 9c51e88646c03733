"""Pods and flow runs agree in the end, whatever happens, in any order."""

from __future__ import annotations

import asyncio
import copy
import os
import re
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runpod_double.lists import WRONG
from runpod_double.memory import Watched

NIGHTLY = os.environ.get("RECSYS_TEST_VOLUME") == "nightly"


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens, in any order: in the end there is no pod that no run wants, and no run waits for a pod that is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = Watched()
        self.watched.runs.online = {"first", "second"}
        self.other = self.watched.another("second")
        self.broken: set[str] = set()
        """Pods that a fault has actually ended or restarted."""
        self.former: dict[str, Any] = {"pods": []}

    def _some(self, data: st.DataObject, *states: str) -> Any:
        found = [run for run in self.watched.runs.runs.values() if run.state in states]
        return (
            data.draw(st.sampled_from(sorted(found, key=lambda run: list(self.watched.runs.runs).index(run.id))))
            if found
            else None
        )

    @rule()
    def a_run_is_rented_for(self) -> None:
        self.watched.account.add(self.watched.runs.add("PENDING"))

    @rule()
    def a_worker_dies_before_it_rents(self) -> None:
        self.watched.runs.add("PENDING")

    @rule(data=st.data())
    def a_run_begins(self, data: st.DataObject) -> None:
        run = self._some(data, "PENDING")
        if run is not None and run.pod in self.watched.account.pods:
            self.watched.runs.set(run.id, "RUNNING", attempt=run.attempt + 1)

    @rule(data=st.data(), state=st.sampled_from(["COMPLETED", "FAILED", "CRASHED", "CANCELLING"]))
    def a_run_ends_or_is_cancelled(self, data: st.DataObject, state: str) -> None:
        run = self._some(data, "RUNNING", "PENDING")
        if run is not None:
            self.watched.runs.set(run.id, state)

    @rule(data=st.data())
    def a_run_is_forgotten(self, data: st.DataObject) -> None:
        run = self._some(data, "RUNNING", "PENDING", "COMPLETED")
        if run is not None:
            del self.watched.runs.runs[run.id]

    @precondition(lambda self: self.watched.account.pods)
    @rule(data=st.data(), fault=st.sampled_from(["gone", "ERROR", "restart", "hidden"]))
    def a_pod_breaks(self, data: st.DataObject, fault: str) -> None:
        pod = data.draw(st.sampled_from(sorted(self.watched.account.pods)))
        if fault != "hidden":
            self.broken.add(pod)
        if fault == "gone":
            del self.watched.account.pods[pod]
        elif fault == "restart":
            self.watched.account.pods[pod]["runtime"] = {"uptime": 0}
        elif fault == "hidden":
            self.watched.account.hidden = {pod}
        else:
            self.watched.account.pods[pod]["status"] = fault

    @rule(seconds=st.sampled_from([0, 5, 30]))
    def the_worker_looks(self, seconds: int) -> None:
        self.watched.look(after_s=seconds)
        self.watched.account.hidden = set()

    @rule(kind=st.sampled_from([*WRONG, "as it was before"]), looks=st.integers(1, 4), both=st.booleans())
    def the_list_is_wrong_for_some_looks(self, kind: str, looks: int, both: bool) -> None:
        self.watched.account.listed = WRONG.get(kind, lambda _: self.former)
        for _ in range(looks):
            self.watched.look()
            if both:
                asyncio.run(self.other.look())
        self.watched.account.listed = lambda pods: {"pods": pods}

    @rule()
    def a_list_is_kept_somewhere(self) -> None:
        self.former = {"pods": copy.deepcopy(list(self.watched.account.pods.values()))}

    @rule()
    def the_api_is_down_for_a_look(self) -> None:
        self.watched.account.fails = [503, 503]
        self.watched.look()
        self.watched.account.fails = []

    @rule()
    def the_prefect_server_is_down_for_a_look(self) -> None:
        self.watched.runs.down = True
        self.watched.look()
        self.watched.runs.down = False

    @rule()
    def no_account_can_be_kept_for_a_look(self) -> None:
        self.watched.runs.locked = True
        self.watched.look()
        self.watched.runs.locked = False

    @rule()
    def another_worker_looks(self) -> None:
        asyncio.run(self.other.look())

    @rule()
    def the_worker_is_restarted(self) -> None:
        self.watched.restart()

    @invariant()
    def no_run_has_two_pods_that_it_names(self) -> None:
        named = [run.pod for run in self.watched.runs.runs.values() if run.pod is not None]
        assert len(named) == len(set(named))

    @invariant()
    def no_run_is_crashed_for_its_pod_unless_its_pod_has_broken(self) -> None:
        for run, message in self.watched.runs.messages.items():
            if run in self.watched.runs.runs and self.watched.runs.runs[run].state == "CRASHED":
                in_time = "startup_timeout" not in message and "max_runtime" not in message
                assert not in_time or self.broken & set(re.findall(r"pod\d+", message)), message

    def teardown(self) -> None:
        self.watched.account.hidden = set()
        for _ in range(12):
            self.watched.look(after_s=15)
        runs = self.watched.runs.runs
        wanted = {run.pod for run in runs.values() if not run.final}
        assert self.watched.account.pods.keys() <= wanted
        for run in runs.values():
            if run.state in ("PENDING", "RUNNING", "CANCELLING"):
                assert run.pod in self.watched.account.pods
        for (run_id, pod), account in self.watched.runs.kept.items():
            if run_id in runs and pod not in self.watched.account.pods:
                assert account.closed


AnyHistory.TestCase.settings = settings(max_examples=60 if NIGHTLY else 25, stateful_step_count=25, deadline=None)
TestAnyHistory = AnyHistory.TestCase
