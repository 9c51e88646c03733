"""The rules by which pods and flow runs are kept in agreement."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from prefect_runpod.api import Pod
from prefect_runpod.pods.order import marks_of
from runpod_double.memory import POOL, PRICE, START, Watched


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"])
def test_the_pod_of_a_run_that_has_ended_is_deleted_and_accounted_for(watched: Watched, state: str) -> None:
    run, pod = watched.running()
    watched.runs.set(run, state)
    watched.look()
    assert watched.account.deleted.keys() == {pod}
    account = watched.runs.kept[run, pod]
    lived = (watched.account.deleted[pod] - START).total_seconds()
    assert account.closed and account.seconds == lived and account.usd == pytest.approx(lived * PRICE / 3600)


def test_a_pod_is_adopted_by_the_next_worker(watched: Watched) -> None:
    run, pod = watched.running()
    watched.restart()
    watched.runs.set(run, "RUNNING", pod=None)
    watched.look(3)
    assert watched.runs.runs[run].pod == pod and not watched.account.deleted and watched.state(run) == "RUNNING"


def test_a_pod_counts_as_gone_only_after_two_looks(watched: Watched) -> None:
    run, pod = watched.running()
    watched.account.hidden = {pod}
    watched.look()
    watched.account.hidden = set()
    watched.look(3)
    assert watched.state(run) == "RUNNING"
    del watched.account.pods[pod]
    watched.look(2)
    assert watched.state(run) == "CRASHED" and "is gone" in watched.runs.messages[run]
    # It counts until the first look that missed it, because it may have lived so long, even if RunPod had not answered for an hour.
    assert watched.runs.kept[run, pod].closed and watched.runs.kept[run, pod].seconds == 72


def test_a_pod_that_vanished_while_no_worker_watched_crashes_its_run(watched: Watched) -> None:
    run, pod = watched.running()
    del watched.account.pods[pod]
    watched.restart()
    watched.look(2)
    assert watched.state(run) == "CRASHED"
    assert watched.runs.kept[run, pod].closed and "no worker watched" in watched.runs.kept[run, pod].note


def test_nothing_is_concluded_from_a_list_that_failed_or_cannot_be_read(watched: Watched) -> None:
    run, pod = watched.running()
    watched.account.fails = [503] * 3
    watched.look(3)
    watched.account.pods["broken"] = {"id": "broken"}  # an entry without a status
    watched.look(5)
    assert watched.state(run) == "RUNNING" and not watched.account.deleted
    del watched.account.pods["broken"]
    watched.look()
    assert watched.state(run) == "RUNNING" and pod in watched.account.pods


def test_without_the_prefect_server_only_age_ends_a_pod(watched: Watched) -> None:
    run, pod = watched.running()
    watched.runs.down = True
    watched.look(10)
    assert pod in watched.account.pods
    watched.look(after_s=3600)
    assert pod in watched.account.deleted
    watched.runs.down = False
    watched.look(2)
    assert watched.state(run) == "CRASHED"


def test_a_pod_that_is_billed_above_its_price_ends_at_its_cost(watched: Watched) -> None:
    run = watched.runs.add("RUNNING")
    pod = watched.account.add(run, max_cost=0.6)
    watched.look(12, after_s=20)
    assert pod in watched.account.pods
    watched.account.pods[pod]["cost"] = 10 * PRICE
    watched.look()
    assert pod in watched.account.deleted and watched.state(run) == "CRASHED" and "max_cost" in watched.runs.messages[run]


def test_the_age_of_a_pod_without_a_creation_time_counts_from_when_it_was_first_seen(watched: Watched) -> None:
    run = watched.runs.add("RUNNING")
    pod = watched.account.add(run, createdAt=None)
    watched.look(2, after_s=1500)
    assert pod in watched.account.pods
    watched.look(2, after_s=1500)
    assert pod in watched.account.deleted and watched.state(run) == "CRASHED"


def test_a_run_that_was_deleted_loses_its_pod_after_two_looks(watched: Watched) -> None:
    run, pod = watched.running()
    del watched.runs.runs[run]
    watched.look()
    assert pod in watched.account.pods
    watched.look()
    assert pod in watched.account.deleted


def test_pods_of_another_pool_or_of_nobody_are_left_alone(watched: Watched) -> None:
    other, nobodys = watched.account.add(uuid4(), pool=uuid4()), watched.account.add(uuid4(), env=None)
    watched.look(5, after_s=3000)
    assert watched.account.pods.keys() == {other, nobodys}


def test_if_a_run_has_two_pods_the_one_that_it_names_is_kept(watched: Watched) -> None:
    run, pod = watched.running()
    second = watched.account.add(run)
    watched.look()
    assert watched.account.pods.keys() == {pod} and second in watched.account.deleted and watched.state(run) == "RUNNING"


def test_the_pod_of_an_earlier_attempt_is_deleted_and_not_taken_for_the_new_one(watched: Watched) -> None:
    run, pod = watched.running()
    watched.runs.set(run, "SCHEDULED", released=True)  # a person has asked for another attempt
    watched.look()
    assert pod in watched.account.deleted
    left = watched.account.add(run, attempt=0)
    watched.runs.set(run, "PENDING", released=False, attempt=1, pod=None)
    watched.look()
    assert left in watched.account.deleted and watched.reconciler.pod_of(run, 1) is None


def test_a_suspended_run_pays_for_no_pod(watched: Watched) -> None:
    run, pod = watched.running()
    watched.runs.set(run, "PAUSED", released=False)
    watched.look(3)
    assert pod in watched.account.pods, "a pod whose process is only paused was deleted"
    watched.runs.set(run, "PAUSED", released=True)
    watched.look()
    assert pod in watched.account.deleted and watched.state(run) == "PAUSED"


@pytest.mark.parametrize("status", ["EXITED", "ERROR"])
def test_a_pod_that_has_ended_before_its_run_crashes_it(watched: Watched, status: str) -> None:
    run, pod = watched.running()
    watched.account.log = ["step 1", "wandb: logged in with wb-4711", "OOM"]
    watched.account.pods[pod] |= {"status": status, "cost": 0.0}
    watched.look()
    assert watched.state(run) == "CRASHED" and watched.runs.messages[run].endswith("OOM")
    assert "wb-4711" not in str(watched.runs.lines) + watched.runs.messages[run] and "********" in str(watched.runs.lines)
    assert watched.runs.kept[run, pod].usd > 0, "an ended pod's price is 0 now, and was not before"


def test_a_container_younger_than_its_run_has_been_restarted(watched: Watched) -> None:
    run, pod = watched.running()
    watched.look(10)
    watched.account.pods[pod]["runtime"] = {"uptime": 0}
    watched.restart()  # nobody saw the uptime fall
    watched.look()
    assert watched.state(run) == "CRASHED" and "RunPod restarted the container" in watched.runs.messages[run]


def test_a_server_that_answers_long_after_the_list_makes_no_container_seem_restarted(watched: Watched) -> None:
    run, _ = watched.running()
    watched.runs.late_s = 300
    for _ in range(3):
        watched.look()
        for pod in watched.account.pods.values():
            pod["runtime"] = {"uptime": pod["runtime"]["uptime"] + 300}
    assert watched.state(run) == "RUNNING", watched.runs.messages


def test_one_restart_before_the_run_began_is_not_a_crash_but_several_are(watched: Watched) -> None:
    run = watched.runs.add("PENDING")
    pod = watched.account.add(run)
    watched.look(2)
    watched.account.pods[pod]["runtime"] = {"uptime": 0}
    watched.look()
    watched.runs.set(run, "RUNNING")
    watched.look(5)
    assert watched.state(run) == "RUNNING"
    looping = watched.runs.add("PENDING")
    other = watched.account.add(looping)
    watched.look()
    for _ in range(3):
        assert watched.state(looping) == "PENDING"
        watched.account.pods[other]["runtime"] = {"uptime": 0}
        watched.look(after_s=15)
    assert watched.state(looping) == "CRASHED" and watched.state(run) == "RUNNING"


def test_a_run_that_does_not_begin_in_time_crashes(watched: Watched) -> None:
    run = watched.runs.add("PENDING")
    pod = watched.account.add(run, startup_s=600, runtime=None, status="PROVISIONING")
    watched.look(49)
    assert watched.state(run) == "PENDING"
    watched.look(2)
    assert watched.state(run) == "CRASHED" and "did not start within 600 s" in watched.runs.messages[run]
    assert pod in watched.account.deleted


def test_a_cancelled_run_that_has_begun_gets_its_grace_period(watched: Watched) -> None:
    run, pod = watched.running()
    watched.runs.set(run, "CANCELLING")
    watched.look(4)
    assert pod in watched.account.pods and watched.state(run) == "CANCELLING"
    watched.look(3)
    assert pod in watched.account.deleted and watched.state(run) == "CANCELLED"


def test_a_run_cancelled_before_it_began_is_cancelled_at_once(watched: Watched) -> None:
    run = watched.runs.add("PENDING")
    pod = watched.account.add(run)
    watched.look()
    watched.runs.set(run, "CANCELLING")
    watched.look()
    assert pod in watched.account.deleted and watched.state(run) == "CANCELLED"


def test_a_cancelled_run_without_a_pod_is_cancelled(watched: Watched) -> None:
    run = watched.runs.add("PENDING")
    watched.runs.set(run, "CANCELLING")
    gone, pod = watched.running()
    watched.runs.set(gone, "CANCELLING")
    del watched.account.pods[pod]
    watched.look(2)
    assert watched.state(run) == watched.state(gone) == "CANCELLED"


def test_a_pending_run_that_nobody_works_on_is_submitted_again(watched: Watched) -> None:
    own, others, held = watched.runs.add("PENDING"), watched.runs.add("PENDING", worker="second"), watched.runs.add("PENDING")
    watched.reconciler.hold(held)
    watched.runs.online = {"second"}
    watched.look(4)
    assert {watched.state(run) for run in (own, others, held)} == {"PENDING"}, "it may be about to be submitted"
    watched.look(2)
    assert watched.state(own) == "SCHEDULED" and watched.state(others) == watched.state(held) == "PENDING"
    watched.runs.online = set()
    watched.look()
    assert watched.state(others) == "SCHEDULED" and watched.state(held) == "PENDING"


def test_an_account_left_open_by_a_killed_worker_is_closed_by_the_next_one(watched: Watched) -> None:
    run, pod = watched.running()
    watched.runs.set(run, "COMPLETED")
    del watched.account.pods[pod]  # the pod was deleted, and the worker was killed before it could record that
    watched.restart()
    watched.look()
    account = watched.runs.kept[run, pod]
    assert account.closed and account.seconds == 12.0


def test_a_deletion_that_fails_is_tried_again(watched: Watched) -> None:
    run, pod = watched.running()
    watched.runs.set(run, "COMPLETED")
    real = watched.account.answer

    def locked(request: Any) -> Any:
        if request.method == "DELETE":
            return httpx.Response(409, json={"title": "Conflict", "status": 409, "detail": "pod is locked"})
        return real(request)

    watched.account.answer = locked  # type: ignore[method-assign]
    watched.restart()
    watched.look(2)
    assert pod in watched.account.pods and not watched.runs.kept[run, pod].closed
    watched.account.answer = real  # type: ignore[method-assign]
    watched.restart()
    watched.look()
    assert pod in watched.account.deleted and watched.runs.kept[run, pod].closed


def test_waiting_for_a_look_ends_with_one_that_began_afterwards(watched: Watched) -> None:
    async def wait() -> int:
        waiting = asyncio.create_task(watched.reconciler.next_look())
        await asyncio.sleep(0)
        watched.account.fails = [503]
        await watched.reconciler.look()
        await asyncio.sleep(0)
        assert not waiting.done(), "a list that failed does not count"
        await watched.reconciler.look()
        await asyncio.wait_for(waiting, 60)
        return watched.account.lists

    assert asyncio.run(wait()) == 1


def test_a_hold_learns_that_its_run_wants_no_pod_and_that_the_pod_is_gone(watched: Watched) -> None:
    async def follow() -> None:
        run = watched.runs.add("PENDING")
        hold = watched.reconciler.hold(run)
        pod = watched.account.add(run)
        watched.reconciler.follow(Pod.model_validate(watched.account.pods[pod]), _marks(watched, pod))
        await watched.reconciler.open_account(pod)
        assert watched.runs.kept[run, pod].usd_per_hour == PRICE
        await watched.reconciler.look()
        assert not hold.withdrawn.is_set()
        watched.runs.set(run, "CANCELLING")
        await watched.reconciler.look()
        assert hold.withdrawn.is_set() and hold.gone.is_set()
        await watched.reconciler.open_account(pod)  # too late: its account is closed
        assert watched.runs.kept[run, pod].closed
        watched.reconciler.release(run)

    asyncio.run(follow())


def test_a_look_that_fails_is_followed_by_another(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    async def life() -> None:
        task = asyncio.create_task(watched.reconciler.forever())
        while watched.account.lists < 3:
            await asyncio.sleep(0.01)
        task.cancel()

    real, calls = watched.runs.look, []

    async def broken(ids: Any) -> Any:
        calls.append(ids)
        if len(calls) == 1:
            raise ZeroDivisionError
        return await real(ids)

    watched.runs.look = broken  # type: ignore[method-assign]
    asyncio.run(life())
    assert "the next one follows" in caplog.text


def _marks(watched: Watched, pod: str) -> Any:
    found = marks_of(Pod.model_validate(watched.account.pods[pod]))
    assert found is not None and found.pool == POOL
    return found
