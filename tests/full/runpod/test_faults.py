"""The worker of type runpod with the double of RunPod's API: after each fault no pod is left, the run has ended in the right
state, its work was not done twice, and its cost is recorded (`World.settle` checks all four).

By day, the tests of the worker's package show each fault with the same double, and these show the main ones with real processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from runpod_double.faults import BrokenConnectionError, Fault
from tests.full.runpod.rented import PRICES, World, a_world, wait_until

pytestmark = pytest.mark.full
CHEAP, MIDDLE, DEAR = PRICES


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("rented")) as world:
        yield world


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """Yield the shared world without faults, and with a running worker."""
    shared.double.faults = type(shared.double.faults)()
    if not shared.workers_alive():
        shared.start_worker()
    yield shared
    shared.double.faults = type(shared.double.faults)()


def kill_at(world: World, method: str, path: str, *, when: str) -> None:
    """Kill the worker at its next request of that kind, `before` or `after` it takes effect. It gets no answer."""
    worker = world.workers_alive()[0]

    def kill(found_method: str, found_path: str) -> None:
        if (found_method, found_path.rpartition("/")[0]) == (method, path) and worker.poll() is None:
            worker.kill()
            worker.wait(timeout=60)
            raise BrokenConnectionError

    setattr(world.double.faults, when, kill)


def restarted(world: World) -> subprocess.Popen[bytes]:
    """Start a new worker of the same name, once the one before has been killed."""
    wait_until(lambda: not world.workers_alive(), 240, "the end of the worker")
    return world.start_worker()


def running_pod(world: World, run: str) -> Any:
    """Return the pod of a run once it works."""
    world.wait_for(run, "RUNNING")
    return world.pods_of(run)[0]


# Killed workers


@pytest.mark.nightly
def test_a_worker_killed_before_the_create_leaves_a_run_that_the_next_one_takes(world: World) -> None:
    kill_at(world, "POST", "/v2", when="before")
    run = world.submit()
    restarted(world)
    world.settle(run, "COMPLETED", executions=1)


def test_a_worker_killed_after_a_create_leaves_a_pod_that_the_next_one_adopts(world: World) -> None:
    kill_at(world, "POST", "/v2", when="after")
    run = world.submit()
    restarted(world)
    world.settle(run, "COMPLETED", executions=1)


@pytest.mark.nightly
def test_a_worker_killed_while_the_run_works_leaves_it_to_the_next_one(world: World) -> None:
    run = world.submit(seconds=20)
    running_pod(world, run)
    world.workers_alive()[0].kill()
    restarted(world)
    world.settle(run, "COMPLETED", executions=1)


@pytest.mark.nightly
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_at_the_deletion_leaves_it_to_the_next_one(world: World, when: str) -> None:
    kill_at(world, "DELETE", "/v2/pods", when=when)
    run = world.submit()
    restarted(world)
    world.settle(run, "COMPLETED", executions=1)


@pytest.mark.nightly
def test_a_worker_that_is_stopped_leaves_the_pod_to_the_next_one(world: World) -> None:
    run = world.submit(seconds=20)
    running_pod(world, run)
    world.workers_alive()[0].terminate()
    restarted(world)
    world.settle(run, "COMPLETED", executions=1)


def test_two_workers_of_one_pool_rent_once_for_each_run_and_either_goes_on_for_both(world: World) -> None:
    world.kill_workers()
    patient = {"RECSYS_RUNPOD_LOST_AFTER_S": "20"}  # a busy server takes seconds to say which of the two has taken a run
    world.start_worker(**patient)
    second = world.start_worker("second", **patient)
    try:
        runs = [world.submit(seconds=15) for _ in range(5)]
        for run in runs:
            world.wait_for(run, "RUNNING", "COMPLETED")
        second.kill()
        second.wait(timeout=60)
        for run in runs:
            world.settle(run, "COMPLETED", executions=1)
    finally:
        world.kill_workers()


# Pods that break


def test_a_pod_that_vanishes_crashes_its_run(world: World) -> None:
    run = world.submit(seconds=600)
    world.double.lose_host(running_pod(world, run).id)
    ended = world.settle(run, "CRASHED", executions=1)
    assert "is gone, but its run had not ended" in ended["state"]["message"]


@pytest.mark.nightly
def test_a_list_that_omits_a_pod_once_changes_nothing(world: World) -> None:
    run = world.submit(seconds=20)
    world.double.faults.hidden[running_pod(world, run).id] = 1
    world.settle(run, "COMPLETED", executions=1)


def test_a_container_killed_during_the_run_crashes_it_and_trains_once(world: World) -> None:
    run = world.submit(seconds=600)
    running_pod(world, run).kill_container()
    ended = world.settle(run, "CRASHED", executions=1)
    assert "RunPod restarted the container" in ended["state"]["message"]


@pytest.mark.nightly
def test_a_container_that_restarts_in_a_loop_crashes_its_run_and_its_last_lines_are_kept(world: World) -> None:
    run = world.submit(variables={"env": {"RECORD": str(world.record), "PLANTED_TOKEN": "tok-3f1a9"}}, dies_early=True)
    ended = world.settle(run, "CRASHED", executions=0)
    assert world.pods_of(run)[0].starts > 3
    assert "CUDA driver version is insufficient" in ended["state"]["message"]
    kept = str(world.post("logs/filter", logs={"flow_run_id": {"any_": [run]}}))
    assert "CUDA driver" in kept and "tok-3f1a9" not in str(ended["state"]) + kept + world.log()


@pytest.mark.nightly
def test_a_run_whose_image_does_not_arrive_in_time_crashes(world: World) -> None:
    world.double.faults.start_s = 600
    run = world.submit(variables={"startup_timeout": 2})
    ended = world.settle(run, "CRASHED", executions=0)
    assert "did not start within 2 s" in ended["state"]["message"]


@pytest.mark.nightly
def test_a_run_that_outlives_its_time_crashes(world: World) -> None:
    run = world.submit(variables={"max_cost": 0.005}, seconds=600)  # 0.44 USD per hour: 40 s
    ended = world.settle(run, "CRASHED", executions=1)
    assert "max_cost" in ended["state"]["message"]


@pytest.mark.nightly
def test_a_flow_that_raises_fails_and_one_that_is_killed_crashes(world: World) -> None:
    failed, killed = world.submit("flow", end="failed"), world.submit(end="killed")
    assert "the training diverged" in world.settle(failed, "FAILED", executions=1)["state"]["message"]
    assert "without setting a final state" in world.settle(killed, "CRASHED", executions=1)["state"]["message"]


# RunPod that refuses


@pytest.mark.nightly
def test_if_two_gpu_types_are_sold_out_the_third_is_rented(world: World) -> None:
    world.double.faults.no_capacity |= {CHEAP, MIDDLE}
    run = world.submit()
    world.settle(run, "COMPLETED", executions=1)
    assert world.pods_of(run)[0].body["gpu"]["id"] == DEAR


@pytest.mark.nightly
def test_an_account_without_balance_ends_the_run_with_one_request(world: World) -> None:
    said = "Your account balance is too low to rent a pod"
    world.double.faults.answers.append(Fault("POST", "/v2/pods", 402, said, times=99))
    before = world.double.count("POST", "/v2/pods")
    ended = world.settle(world.submit(), "CRASHED", executions=0, pods=0)
    assert said in ended["state"]["message"] and world.double.count("POST", "/v2/pods") == before + 1


@pytest.mark.nightly
def test_a_create_waits_as_long_as_the_rate_limit_says(world: World) -> None:
    world.double.faults.answers.append(Fault("POST", "/v2/pods", 429, "rate limit exceeded", retry_after_s=2))
    before = len(world.double.requests)
    world.settle(world.submit(), "COMPLETED", executions=1)
    asked = world.double.requests[before:]
    creates = [request for request in asked if (request.method, request.path) == ("POST", "/v2/pods")]
    assert creates[0].status == 429 and creates[-1].status == 201 and creates[1].at - creates[0].at >= 2
    assert {request.status for request in asked if request not in creates} <= {200, 204}, "other requests were refused, too"


@pytest.mark.nightly
def test_the_worker_waits_for_an_api_that_is_down(world: World) -> None:
    works = world.submit(seconds=20)
    running_pod(world, works)
    world.double.go_down(30)  # it ends meanwhile
    begins = world.submit()
    world.settle(works, "COMPLETED", executions=1)
    world.settle(begins, "COMPLETED", executions=1)


def test_a_create_whose_answer_is_lost_makes_one_pod(world: World) -> None:
    world.double.faults.lost_creates = 1
    world.settle(world.submit(), "COMPLETED", executions=1)


@pytest.mark.nightly
def test_a_create_that_ends_in_a_server_error_is_tried_again_once_no_pod_is_found(world: World) -> None:
    world.double.faults.answers.append(Fault("POST", "/v2/pods", 503, "try later"))
    world.settle(world.submit(), "COMPLETED", executions=1)


# Cancellation


@pytest.mark.nightly
def test_a_run_cancelled_while_no_gpu_is_free_never_has_a_pod(world: World) -> None:
    world.double.faults.no_capacity |= set(PRICES)
    run = world.submit()
    wait_until(lambda: world.run(run)["state_name"] == "AwaitingGPU", 240, "the wait for a GPU")
    world.cancel(run)
    world.settle(run, "CANCELLED", executions=0, pods=0)


@pytest.mark.nightly
def test_a_run_cancelled_while_its_image_is_pulled_is_cancelled_at_once(world: World) -> None:
    world.double.faults.start_s = 600
    run = world.submit()
    wait_until(lambda: world.run(run)["infrastructure_pid"], 240, "the pod")
    world.cancel(run)
    world.settle(run, "CANCELLED", executions=0)


def test_a_run_cancelled_while_it_works_cancels_itself(world: World) -> None:
    run = world.submit(seconds=600)
    running_pod(world, run)
    world.cancel(run)
    world.settle(run, "CANCELLED", executions=1)


@pytest.mark.nightly
def test_a_run_that_ignores_its_cancellation_is_ended_after_the_grace_period(world: World) -> None:
    run = world.submit(seconds=600, deaf=True)
    running_pod(world, run)
    world.cancel(run)
    ended = world.settle(run, "CANCELLED", executions=1)
    assert "had not stopped by itself" in ended["state"]["message"]


# The Prefect server


def test_a_prefect_server_that_is_restarted_loses_nothing(world: World) -> None:
    run = world.submit(seconds=20)
    running_pod(world, run)
    world.stop_server()
    world.start_server()
    world.settle(run, "COMPLETED", executions=1)


@pytest.mark.nightly
def test_a_pod_whose_run_was_deleted_is_deleted(world: World) -> None:
    run = world.submit(seconds=600)
    pod = running_pod(world, run)
    world.forget(run)
    wait_until(lambda: pod.ended is not None, 240, "the end of the pod")
    assert world.executions(run) == 1


@pytest.mark.nightly
def test_a_pod_that_carries_no_marks_is_left_alone(world: World) -> None:
    body = {"name": "someone-elses", "image": "x", "gpu": {"id": CHEAP}, "args": "sleep 600"}
    pod = world.double.rent(body)
    before = world.double.count("GET", "/v2/pods")
    wait_until(lambda: world.double.count("GET", "/v2/pods") > before + 4, 240, "some looks")
    assert pod.ended is None
    pod.end(kill=True)
