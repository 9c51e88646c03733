"""A list of pods is only a hint. Whatever it says or leaves out, no working run is crashed, and no pod is left to be billed."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from prefect_runpod.api import Pod
from prefect_runpod.pods.order import marks_of
from prefect_runpod.pods.reconciler import ASKED_AT_MOST
from runpod_double.lists import WRONG, stale
from runpod_double.memory import PRICE, START, Watched


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_list_neither_crashes_a_run_nor_deletes_its_pod(watched: Watched, kind: str) -> None:
    runs = dict(watched.running() for _ in range(3))
    watched.account.listed = WRONG[kind]
    watched.look(40)
    assert {watched.state(run) for run in runs} == {"RUNNING"}, watched.runs.messages
    assert not watched.account.deleted


def test_an_outdated_list_crashes_no_run(watched: Watched) -> None:
    run, pod = watched.running()
    watched.account.listed = stale(list(watched.account.pods.values()))
    watched.look(40)
    assert watched.state(run) == "RUNNING" and pod in watched.account.pods, watched.runs.messages


@pytest.mark.parametrize("kind", ["empty", "a page of HTML", "of foreign pods", "terminated"])
def test_a_pod_that_no_list_shows_is_deleted_when_its_run_ends_or_its_time_is_over(watched: Watched, kind: str) -> None:
    (ended, ended_pod), (_, old_pod) = watched.running(), watched.running()
    watched.account.listed = WRONG[kind]
    watched.runs.set(ended, "COMPLETED")
    watched.look(2)
    assert watched.account.deleted.keys() == {ended_pod} and watched.runs.kept[ended, ended_pod].closed
    watched.look(3, after_s=1800)
    assert old_pod in watched.account.deleted


def test_a_pod_that_is_hidden_when_its_worker_is_restarted_goes_on(watched: Watched) -> None:
    run, pod = watched.running()
    watched.account.hidden = {pod}
    watched.restart()
    watched.look(20)
    assert watched.state(run) == "RUNNING" and not watched.account.deleted
    watched.runs.set(run, "COMPLETED")
    watched.look(3)
    assert pod in watched.account.deleted


def test_a_pod_that_is_gone_is_deleted_nevertheless(watched: Watched) -> None:
    run, pod = watched.running()
    real, deletes = watched.account.answer, []

    def gone(request: Any) -> Any:
        if request.method == "DELETE":
            deletes.append(request.url.path)
        return real(request)

    watched.account.answer = gone  # type: ignore[method-assign]
    watched.account.hidden = {pod}
    del watched.account.pods[pod]
    watched.look(2)
    assert watched.state(run) == "CRASHED" and deletes == [f"/v2/pods/{pod}"]
    named = watched.runs.add(pod="pod-of-an-earlier-worker")
    watched.look(2)
    assert watched.state(named) == "CRASHED" and deletes[1:] == ["/v2/pods/pod-of-an-earlier-worker"]


def test_a_pod_counts_as_gone_only_if_it_says_so_itself(watched: Watched) -> None:
    run, pod = watched.running()
    real, status = watched.account.answer, [503]

    def answer(request: Any) -> Any:
        if request.url.path == f"/v2/pods/{pod}" and status:
            return httpx.Response(status[0], json={"title": "x", "status": status[0], "detail": "d"})
        return real(request)

    watched.account.answer = answer  # type: ignore[method-assign]
    watched.account.hidden = {pod}
    watched.look(10)
    status[:] = [200]  # an answer without the fields of a pod
    watched.look(10)
    assert watched.state(run) == "RUNNING"
    status[:] = [404]
    watched.look(3)
    assert watched.state(run) == "CRASHED" and "is gone" in watched.runs.messages[run]


def test_one_check_asks_about_few_pods_and_all_checks_together_about_all(watched: Watched) -> None:
    runs = dict(watched.running() for _ in range(3 * ASKED_AT_MOST))
    watched.account.listed = WRONG["empty"]
    counts = []
    for _ in range(8):
        before = len(watched.account.asked)
        watched.look()
        counts.append(len(watched.account.asked) - before)
    assert max(counts) == ASKED_AT_MOST and set(watched.account.asked) == set(runs.values())


def test_wrong_lists_of_more_pods_than_one_check_asks_about_do_not_add_up(watched: Watched) -> None:
    runs = [watched.runs.add("PENDING") for _ in range(ASKED_AT_MOST + 2)]
    for run in runs:
        watched.account.add(run)
    watched.look(2)
    watched.account.listed = WRONG["restarted"]
    watched.look(6)
    watched.account.listed = lambda pods: {"pods": pods}
    watched.look(8)
    assert not watched.runs.messages and not watched.account.deleted


def test_records_that_could_not_be_closed_after_a_restart_are_closed_by_the_next_check(watched: Watched) -> None:
    run, pod = watched.running()
    watched.look()
    watched.runs.set(run, "COMPLETED")
    watched.runs.locked = True
    watched.look()
    watched.restart()
    watched.look()
    watched.runs.locked = False
    watched.look(2)
    assert watched.runs.kept[run, pod].closed


def test_a_restart_that_the_pod_confirms_crashes_the_run_at_once(watched: Watched) -> None:
    run, pod = watched.running()
    watched.look(3)
    watched.account.pods[pod]["runtime"] = {"uptime": 0}
    watched.look(8)
    assert watched.state(run) == "CRASHED" and "RunPod restarted the container" in watched.runs.messages[run]


def test_while_lists_fail_the_pods_are_asked_one_by_one(watched: Watched) -> None:
    run, pod = watched.running()
    watched.account.listed = WRONG["a page of HTML"]
    watched.look(5)
    assert watched.state(run) == "RUNNING"
    watched.account.pods[pod]["runtime"] = {"uptime": 0}
    watched.look(3)
    assert watched.state(run) == "CRASHED" and pod in watched.account.deleted


def test_a_list_that_fails_does_not_keep_a_pod_beyond_its_limits(watched: Watched) -> None:
    run, pod = watched.running()
    watched.account.listed = WRONG["a page of HTML"]
    watched.look(10, after_s=300)
    assert pod in watched.account.pods
    watched.runs.down = True
    watched.look()
    assert pod in watched.account.pods
    watched.look(after_s=600)
    assert pod in watched.account.deleted and watched.state(run) == "RUNNING"


def test_a_pod_billed_above_the_maximum_price_is_deleted_and_its_run_crashed_in_one_sentence(watched: Watched) -> None:
    run = watched.runs.add("RUNNING")
    pod = watched.account.add(run, max_price=5.0)
    watched.look()
    assert watched.runs.runs[run].pod == pod
    watched.account.pods[pod]["cost"] = 30
    watched.look()
    assert pod in watched.account.deleted and watched.state(run) == "CRASHED"
    assert watched.runs.messages[run] == f"The pod {pod} is billed at 30 USD per hour, above max_price_per_hour 5."


def test_a_price_that_is_wrong_only_in_the_list_deletes_nothing(watched: Watched) -> None:
    run = watched.runs.add("RUNNING")
    pod = watched.account.add(run, max_price=5.0, max_cost=20.0)
    watched.look()
    watched.account.itself[pod] = {"cost": PRICE}
    watched.account.pods[pod]["cost"] = 3000
    watched.look(20)
    assert watched.state(run) == "RUNNING" and not watched.account.deleted


def test_a_price_that_rises_while_prefect_is_down_ends_the_pod(watched: Watched) -> None:
    run = watched.runs.add("RUNNING")
    pod = watched.account.add(run, max_price=5.0)
    watched.look()
    watched.runs.down = True
    watched.account.pods[pod]["cost"] = 30
    watched.look()
    assert pod in watched.account.deleted


def test_an_expensive_pod_that_its_run_does_not_name_is_deleted_and_the_run_waits_for_another(watched: Watched) -> None:
    run = watched.runs.add("PENDING")
    hold = watched.reconciler.hold(run)
    pod = watched.account.add(run, max_price=1.0)
    watched.look()
    assert pod in watched.account.deleted and watched.state(run) == "PENDING"
    assert watched.reconciler.too_dear(run) == {"NVIDIA L4"} and watched.reconciler.pod_of(run, 0) is None
    assert not hold.gone.is_set(), "the run has had no pod yet"


def test_a_rejected_pod_is_deleted_and_accounted_for_and_the_run_goes_on_waiting(watched: Watched) -> None:
    async def reject() -> None:
        run = watched.runs.add("PENDING")
        hold = watched.reconciler.hold(run)
        pod = Pod.model_validate(watched.account.pods[watched.account.add(run, max_price=1.0)])
        marks = marks_of(pod)
        assert marks is not None
        await watched.reconciler.reject(pod, marks)
        record = watched.runs.kept[run, pod.id]
        assert pod.id in watched.account.deleted and record.closed and "max_price_per_hour" in record.note
        assert watched.reconciler.too_dear(run) == {"NVIDIA L4"} and not hold.gone.is_set()
        watched.reconciler.release(run)
        assert watched.reconciler.too_dear(run) == set()

    asyncio.run(reject())


def test_a_run_whose_pod_carries_no_marks_is_left_as_it_is(watched: Watched) -> None:
    nobodys = watched.account.add(uuid4(), env=None)
    run = watched.runs.add(pod=nobodys)
    watched.look(10)
    assert watched.state(run) == "RUNNING" and nobodys in watched.account.pods
    assert watched.account.now > START
