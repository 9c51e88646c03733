"""Clocks differ, workers and servers do not know of each other, or servers do not answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from prefect_runpod.api import Pod
from prefect_runpod.pods.order import marks_of, server_mark
from prefect_runpod.pods.runs import RunsUnavailableError
from runpod_double.memory import START, Watched


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_worker_whose_clock_is_wrong_judges_and_counts_as_others_do(watched: Watched, hours: int) -> None:
    watched.ahead = timedelta(hours=hours)
    watched.restart()
    run, pod = watched.running()
    starts = watched.runs.add("PENDING")
    watched.account.add(starts, startup_s=600)
    watched.look(20)
    assert watched.state(run) == "RUNNING" and watched.state(starts) == "PENDING"
    watched.restart()
    watched.look(3)
    assert watched.state(run) == "RUNNING"
    watched.runs.set(run, "CANCELLING")
    watched.look(4)
    assert watched.state(run) == "CANCELLING", "its grace period is not over"
    watched.look(3)
    assert watched.state(run) == "CANCELLED"
    lived = (watched.account.deleted[pod] - START).total_seconds()
    assert watched.runs.kept[run, pod].closed and watched.runs.kept[run, pod].seconds == pytest.approx(lived, abs=1)
    lost = watched.runs.add("PENDING")
    watched.look(5)
    assert watched.state(lost) == "PENDING"
    watched.look()
    assert watched.state(lost) == "SCHEDULED"
    watched.look(30)
    assert watched.state(starts) == "CRASHED", "it did not begin in time"


def test_a_restart_that_was_seen_during_the_run_needs_no_slack_for_clocks(watched: Watched) -> None:
    run, pod = watched.running()
    watched.look(2)
    watched.account.pods[pod]["runtime"] = {"uptime": -6}  # 6 s old at the next look, 60 s before the other rule would know
    watched.look()
    assert watched.state(run) == "CRASHED" and "during the run" in watched.runs.messages[run]


def test_if_two_pods_are_not_named_yet_the_run_names_the_older_one_and_goes_on(watched: Watched) -> None:
    run = watched.runs.add("PENDING")
    first = watched.account.add(run)
    watched.account.now += timedelta(seconds=3)
    second = watched.account.add(run)
    assigned: list[str] = []
    real = watched.runs.assign

    async def assign(view: Any, pod: str) -> None:
        assigned.append(pod)
        await real(view, pod)

    watched.runs.assign = assign  # type: ignore[method-assign]
    watched.look()
    assert assigned == [first]
    watched.runs.set(run, "RUNNING", attempt=1)
    watched.look(3)
    assert watched.account.deleted.keys() == {second} and watched.state(run) == "RUNNING"


def test_a_copy_of_a_servers_database_does_not_delete_the_pods_of_the_servers_later_runs(watched: Watched) -> None:
    theirs = watched.account.add(uuid4(), server="https://prefect.production/api")
    watched.look(20)
    assert theirs in watched.account.pods
    watched.look(after_s=3600)
    assert theirs in watched.account.deleted, "its time is over, whoever rented it"


def test_a_server_is_the_same_one_whatever_password_its_address_carries() -> None:
    assert server_mark("http://admin:pw@prefect:4200/api/") == server_mark("http://prefect:4200/api")
    assert server_mark("http://prefect:4200/api") != server_mark("http://other:4200/api")
    assert "prefect" not in server_mark("http://prefect:4200/api")


def test_while_runpod_is_down_a_run_that_waits_for_a_pod_learns_that_it_was_cancelled(watched: Watched) -> None:
    run = watched.runs.add("PENDING")
    hold = watched.reconciler.hold(run)
    watched.account.fails = [503] * 3
    watched.runs.down = True
    watched.look()
    watched.runs.down = False
    watched.look()
    assert not hold.withdrawn.is_set()
    watched.runs.set(run, "CANCELLING")
    watched.look()
    assert hold.withdrawn.is_set() and watched.account.lists == 0


def test_an_error_with_one_pod_leaves_no_other_pod_running(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    first, second = watched.running(), watched.running()
    real = watched.runs.account

    async def broken(run: Any, cost: Any) -> None:
        if run == first[0]:
            raise ZeroDivisionError
        await real(run, cost)

    watched.runs.account = broken  # type: ignore[method-assign]
    for run, _ in (first, second):
        watched.runs.set(run, "COMPLETED")
    bare = watched.runs.add("CANCELLING")
    watched.look(2)
    assert watched.account.deleted.keys() == {second[1]} and watched.state(bare) == "CANCELLED"
    assert "is left to the next check" in caplog.text
    watched.runs.account = real  # type: ignore[method-assign]
    watched.look()
    assert not watched.account.pods


def test_an_account_that_could_not_be_stored_is_stored_later_and_in_full(watched: Watched) -> None:
    run, pod = watched.running()
    begun = watched.account.now
    watched.runs.set(run, "CANCELLED")
    watched.account.fails = [503] * 100  # RunPod does not answer, and nobody can delete the pod
    watched.look(10)
    watched.account.fails = []
    watched.restart()  # the first look of a worker also closes what others have left open
    watched.runs.locked = True
    watched.look()
    lived = (watched.account.now - begun).total_seconds()
    assert pod in watched.account.deleted and not watched.runs.kept[run, pod].closed
    watched.look()
    watched.runs.locked = False
    watched.look()
    account = watched.runs.kept[run, pod]
    assert account.closed and account.seconds == pytest.approx(lived + 12, abs=1) and account.note == ""
    assert not watched.reconciler._records.unsettled


def test_storing_the_account_of_a_deleted_run_is_given_up(watched: Watched) -> None:
    run, pod = watched.running()
    watched.runs.set(run, "COMPLETED")
    watched.runs.locked = True
    watched.look()
    assert pod in watched.account.deleted and watched.reconciler._records.unsettled
    del watched.runs.runs[run]
    watched.look()
    assert not watched.reconciler._records.unsettled


def test_pods_without_a_worker_count_for_every_worker_and_those_of_another_worker_do_not(watched: Watched) -> None:
    own, others, dead = [watched.running(worker=name) for name in ("first", "second", "third")]
    held, ended = watched.running(), watched.running()
    watched.reconciler.hold(held[0])
    watched.runs.set(ended[0], "COMPLETED")
    watched.runs.online = {"first", "second"}
    watched.look()
    assert watched.adopted[-1] == {own[1], dead[1]} and others[1] in watched.account.pods
    watched.runs.down = True
    told = len(watched.adopted)
    watched.look()
    assert len(watched.adopted) == told, "nothing changes while nothing is known"


def test_nothing_is_adopted_while_the_server_cannot_say_who_works_on_a_pod(watched: Watched) -> None:
    watched.running(worker="second")

    async def silent(worker: str) -> bool:
        raise RunsUnavailableError("down")

    told = len(watched.adopted)
    watched.runs.at_work = silent  # type: ignore[method-assign]
    watched.look()
    assert len(watched.adopted) == told


def test_a_state_that_the_server_never_accepts_does_not_keep_a_pod_for_ever(watched: Watched) -> None:
    run = watched.runs.add("PENDING")
    pod = watched.account.add(run, startup_s=600, max_cost=5.0)  # which lasts for 5,000 s

    async def refused(*said: Any) -> None:
        raise RunsUnavailableError("Internal Server Error")

    watched.runs.crash = refused  # type: ignore[method-assign]
    watched.look(60)
    assert pod in watched.account.pods, "the pod was deleted before its run learned why"
    watched.look(400)
    assert (watched.account.deleted[pod] - START).total_seconds() <= 5_012


def test_log_lines_that_the_server_does_not_accept_do_not_keep_a_run_from_its_state(watched: Watched) -> None:
    run, pod = watched.running()
    watched.account.log = ["CUDA error\x00: out of memory"]

    async def refused(*said: Any) -> None:
        raise RunsUnavailableError("Internal Server Error")

    watched.runs.log = refused  # type: ignore[method-assign]
    watched.account.pods[pod]["status"] = "EXITED"
    watched.look()
    assert watched.state(run) == "CRASHED" and pod in watched.account.deleted
    assert watched.runs.messages[run].endswith("Its log ends: CUDA error: out of memory")


def test_a_run_that_waits_to_try_again_in_its_process_has_begun(watched: Watched) -> None:
    run = watched.runs.add("PENDING", begun=False, attempt=0)
    pod = watched.account.add(run, startup_s=600)
    watched.look()
    watched.runs.set(run, "RUNNING", attempt=1)
    watched.look(60)
    watched.runs.set(run, "SCHEDULED")  # AwaitingRetry of a flow with retries: the process sleeps
    watched.look(3)
    assert watched.state(run) == "SCHEDULED" and pod in watched.account.pods


def test_nothing_is_kept_of_runs_that_are_over(watched: Watched) -> None:
    for _ in range(20):
        run, _ = watched.running()
        watched.reconciler.hold(run)
        watched.look()
        watched.runs.set(run, "COMPLETED")
        watched.look(2)
        watched.reconciler.release(run)
        bare = watched.runs.add("PENDING")
        watched.look(2)
        watched.runs.set(bare, "CRASHED")
    watched.look()
    kept = watched.reconciler
    assert not kept._tracked and not kept._held and not kept._without_pod and not kept._records.unsettled


def test_a_pod_rented_while_open_records_are_read_keeps_its_record_open(watched: Watched) -> None:
    run = watched.runs.add("CANCELLED")
    real = watched.runs.open_accounts

    async def open_accounts() -> Any:
        pod = Pod.model_validate(watched.account.pods[watched.account.add(run)])
        marks = marks_of(pod)
        assert marks is not None
        watched.reconciler.follow(pod, marks)
        await watched.reconciler.open_account(pod.id)
        return await real()

    watched.runs.open_accounts = open_accounts  # type: ignore[method-assign]
    watched.look()  # the first look of a worker closes what others have left open
    assert [record.closed for record in watched.runs.kept.values()] == [False]
