"""Faults that last, and many at once: RunPod's API down for a while, and a worker that is killed again and again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import count

import pytest

from runpod_double.faults import BrokenConnectionError, Faults, problem
from tests.full.runpod.rented import FINAL, World, a_world, wait_until
from tests.volume import volume

pytestmark = [pytest.mark.full, pytest.mark.nightly]  # the worker's package has random histories by day
OUTAGE_S = volume(45.0, 120.0)
LOOK_EVERY_S, BACKOFF_S, MAX_BACKOFF_S, ATTEMPTS = 4.0, 1.0, 10.0, 4
STEADY = {
    "RECSYS_RUNPOD_LOOK_EVERY_S": str(LOOK_EVERY_S),
    "RECSYS_RUNPOD_BACKOFF_S": str(BACKOFF_S),
    "RECSYS_RUNPOD_MAX_BACKOFF_S": str(MAX_BACKOFF_S),
    "RECSYS_RUNPOD_ATTEMPTS": str(ATTEMPTS),
    "RECSYS_RUNPOD_LOST_AFTER_S": "5",
    "RECSYS_RUNPOD_LINGER_S": "1800",  # no pod asks for its own end meanwhile
}
KILLS, RUNS = volume(3, 6), volume(6, 8)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("chaos")) as world:
        yield world


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    yield shared
    shared.kill_workers()
    shared.double.faults = Faults()


def test_in_an_outage_of_the_api_nothing_ends_wrongly_and_requests_are_few(world: World) -> None:
    """One worker survives the outage. Another one, of another pool, is killed during it and started again."""
    world.set_up("other")
    world.start_worker("steady", "gpu", **STEADY)
    broken = world.start_worker("broken", "other", **STEADY)
    pools = ("gpu", "other")
    outlasts = {pool: world.submit(pool=pool, seconds=OUTAGE_S + 40) for pool in pools}
    cancelled = {pool: world.submit(pool=pool, seconds=1800) for pool in pools}
    for run in (*outlasts.values(), *cancelled.values()):
        world.wait_for(run, "RUNNING")
    works = {pool: world.submit(pool=pool, seconds=OUTAGE_S / 3) for pool in pools}  # ends while nobody can delete its pod
    for run in works.values():
        world.wait_for(run, "RUNNING")

    began = time.monotonic()
    with world.double.refusing():
        waits = {pool: world.submit(pool=pool) for pool in pools}
        gives_up = {pool: world.submit(pool=pool, seconds=600) for pool in pools}
        for run in (*waits.values(), *gives_up.values()):
            world.wait_for(run, "PENDING")
        before = len(world.double.requests)  # requests that were under way at the beginning have been answered
        for run in (*gives_up.values(), *cancelled.values()):
            world.cancel(run)
        for run in (*cancelled.values(), gives_up["gpu"]):
            world.wait_for(run, "CANCELLED")
        _sleep_until(began + OUTAGE_S * 5 / 12)
        broken.kill()
        broken.wait(timeout=60)
        _sleep_until(began + OUTAGE_S / 2)
        assert not [request for request in world.double.requests[before:] if request.status], "something was answered"
        world.double.go_down(3600, pages=True)  # before the port listens again
    refused = world.log().count("did not answer the request for the list of pods")
    first_s = time.monotonic() - began
    world.start_worker("broken", "other", **STEADY)
    since, seen = time.monotonic(), len(world.double.requests)
    _sleep_until(since + OUTAGE_S / 2)
    asked = world.double.requests[seen:]
    second_s = time.monotonic() - since
    assert world.state(waits["gpu"]) == world.state(waits["other"]) == "PENDING"
    rented = [pod for run in (*works.values(), *outlasts.values(), *cancelled.values()) for pod in world.pods_of(run)]
    assert len(rented) == 6 and not [pod for pod in rented if pod.ended is not None], "a pod was ended or rented in the outage"
    world.double.faults = Faults()

    for pool in pools:
        world.settle(works[pool], "COMPLETED", executions=1, seconds=300)
        world.settle(cancelled[pool], "CANCELLED", executions=1, seconds=300)
        world.settle(gives_up[pool], "CANCELLED", executions=0, pods=0, seconds=300)
        world.settle(waits[pool], "COMPLETED", executions=1, seconds=300)
        world.settle(outlasts[pool], "COMPLETED", executions=1, seconds=300)
    assert not world.double.alive

    # How long each half takes depends on the machine, so the number of requests is compared with that time.
    assert 0 < refused <= 2 * (first_s / LOOK_EVERY_S + 2)
    assert {request.status for request in asked} == {502, 503}
    lists = sum((request.method, request.path) == ("GET", "/v2/pods") for request in asked)
    looks = second_s / LOOK_EVERY_S
    assert looks / 3 < lists <= 2 * (looks + 2), "there was not about one list in an interval"
    deletes = sum(request.method == "DELETE" for request in asked)
    ended = len(works) + len(cancelled)
    assert deletes <= 2 * ended * (looks + 2), "there was more than one deletion of a pod in an interval"
    # Meanwhile the one run that waits asks in rounds: a number of attempts with backoff, and then the longest pause.
    tries = sum(BACKOFF_S * 2**number for number in range(ATTEMPTS - 1)) * 0.75 + MAX_BACKOFF_S
    # One more round may be under way at the beginning, and one at the end.
    assert len(asked) - lists - deletes <= ATTEMPTS * (second_s / tries + 2)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def test_a_pod_that_has_lost_its_worker_and_its_server_ends_itself_in_time(world: World) -> None:
    worker = world.start_worker(RECSYS_RUNPOD_LINGER_S="1")
    run = world.submit(variables={"max_cost": 0.006}, seconds=1800)  # 0.44 USD per hour: 49 s
    world.wait_for(run, "RUNNING")
    (pod,) = world.pods_of(run)
    worker.kill()
    worker.wait(timeout=60)
    world.stop_server()
    wait_until(lambda: pod.ended is not None, 240, "its end")
    world.start_server()
    world.start_worker()
    ended = world.wait_for(run, *FINAL)
    assert (ended["state_type"], world.executions(run)) == ("CRASHED", 1) and "is gone" in ended["state"]["message"]
    (cost,) = wait_until(lambda: [cost for cost in world.costs(run) if cost["closed"]], 240, "its account")
    assert cost["usd"] >= 0.005


@pytest.mark.parametrize("seed", [1])
def test_each_run_trains_once_although_workers_are_killed_at_random_and_answers_are_lost(world: World, seed: int) -> None:
    times = random.Random(seed)
    asked, made, deleted = count(1), count(1), count(1)  # so that each fault happens, whatever the order of the requests

    def fails(method: str, path: str) -> None:
        if (number := next(asked)) % 9 == 0:
            raise problem([500, 502, 503][number // 9 % 3], "out of order")

    def is_lost(method: str, path: str) -> None:
        kind = (next(made) if path == "/v2/pods" else 0) if method == "POST" else next(deleted) if method == "DELETE" else 0
        if kind % 4 == 1:
            raise BrokenConnectionError
        if kind % 4 == 3:
            raise problem(504, "it took too long")  # although it was done

    world.double.faults = Faults(before=fails, after=is_lost)
    runs = [world.submit(seconds=times.uniform(1, 25)) for _ in range(RUNS)]
    for number in range(KILLS + 1):
        worker = world.start_worker()
        if number < KILLS:
            time.sleep(times.uniform(4, 12))  # its start takes some seconds of that
            worker.kill()
            worker.wait(timeout=60)
    for run in runs:
        world.wait_for(run, *FINAL, seconds=900)
    wait_until(lambda: not world.double.alive, 300, "the end of all pods")
    for run in runs:
        world.settle(run, "COMPLETED", executions=1, pods=len(world.pods_of(run)))
    heard = world.double.statuses()
    assert heard[504] >= 2 and heard[500] + heard[502] + heard[503] >= 2 and next(made) > RUNS
