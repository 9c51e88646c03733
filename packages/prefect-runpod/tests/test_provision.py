"""How a run gets its pod: candidates are tried in order, and the run gets one pod, whatever RunPod answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_runpod.api import GpuType, Pod, RequestRefusedError, RunPodClient, UnavailableError
from prefect_runpod.api.errors import AccountError
from prefect_runpod.pods.order import Marks, Order, OrderError, marks_of
from prefect_runpod.pods.provision import NoPodError, Provisioner, WithdrawnError, candidates, pause
from prefect_runpod.settings import RunPodSettings
from runpod_double.description import schema_errors
from runpod_double.faults import Fault
from runpod_double.runpod_api import ACCOUNT_KEY, RunPodDouble

CHEAP, MIDDLE, DEAR = "NVIDIA L4", "NVIDIA A40", "NVIDIA H100 PCIe"
ORDER = Order(
    marks=Marks(uuid4(), uuid4(), 0, 600, 3600),
    image="i",
    command=("sleep", "60"),
    gpu_types=(CHEAP, MIDDLE, DEAR),
    env={"PREFECT_POD_LINGER_S": "60", "PREFECT_API_URL": "http://127.0.0.1:9/api"},
)


class Looks:
    """Lists the pods when it is asked to look."""

    deaf = False
    """Whether nothing can be deleted."""

    def __init__(self, client: RunPodClient) -> None:
        self.client, self.pods, self.looks = client, [], 0  # type: ignore[var-annotated]
        self.dear: set[str] = set()

    async def next_look(self) -> None:
        self.looks += 1
        self.pods = await self.client.list_pods()

    def pod_of(self, run: UUID, attempt: int) -> Pod | None:
        own = ((pod, marks_of(pod)) for pod in self.pods)
        return next((pod for pod, marks in own if marks is not None and (marks.run, marks.attempt) == (run, attempt)), None)

    def too_dear(self, run: UUID) -> set[str]:
        return self.dear

    async def reject(self, pod: Pod, marks: Marks) -> None:
        self.dear.add(pod.gpu)
        if self.deaf:
            raise UnavailableError("out of order")
        await self.client.delete_pod(pod.id)


class Renting:
    def __init__(self, double: RunPodDouble) -> None:
        self.double = double
        self.settings = RunPodSettings(base_url=double.url, backoff_s=1, timeout_s=60, attempts=1)
        self.clock, self.said, self.withdrawn = [0.0], [], asyncio.Event()  # type: ignore[var-annotated]
        self.on_pause: Callable[[], None] = lambda: None

    def rent(self, order: Order = ORDER) -> Pod:
        async def wait(seconds: float, withdrawn: asyncio.Event) -> None:
            self.clock[0] += seconds
            self.on_pause()

        async def tell(said: str) -> None:
            self.said.append(said)

        async def within() -> Pod:
            settings = self.settings
            async with RunPodClient(SecretStr(ACCOUNT_KEY), settings) as client:
                self.lookup = Looks(client)
                provisioner = Provisioner(client, self.lookup, settings, pause=wait, clock=lambda: self.clock[0])
                if not self.withdrawn.is_set():
                    self.withdrawn = asyncio.Event()  # it must belong to this loop
                return await provisioner.rent(order, self.withdrawn, tell)

        return asyncio.run(within())


@pytest.fixture
def renting(double: RunPodDouble) -> Renting:
    return Renting(double)


def creates(double: RunPodDouble) -> int:
    return double.count("POST", "/v2/pods")


def test_the_first_free_gpu_type_is_rented_and_carries_the_runs_marks(renting: Renting) -> None:
    pod = renting.rent()
    assert pod.gpu == CHEAP and marks_of(pod) == ORDER.marks and pod.name == ORDER.marks.name
    assert renting.double.pods[pod.id].command == ["python", "-m", "prefect_runpod.launcher", "--", "sleep", "60"]


def test_the_command_is_sent_in_the_form_that_the_description_knows(double: RunPodDouble) -> None:
    old = Renting(double).rent()
    assert double.statuses()[422] == 1 and json.loads(double.pods[old.id].body["args"])["cmd"] == ["--", "sleep", "60"]
    double.newer = True
    new = Renting(double).rent()
    assert double.pods[new.id].body["cmd"] == ["--", "sleep", "60"] and double.statuses()[422] == 1
    assert double.pods[new.id].command == double.pods[old.id].command
    double.newer = False
    with pytest.raises(RequestRefusedError, match="cmd"):
        Renting(double).rent(replace(ORDER, command_style="exec"))
    asked = double.count("POST", "/v2/pods")
    assert "args" in double.pods[Renting(double).rent(replace(ORDER, command_style="args")).id].body
    assert double.count("POST", "/v2/pods") == asked + 1


def test_types_that_are_sold_out_are_skipped_and_tried_last(renting: Renting) -> None:
    renting.double.faults.no_capacity = {CHEAP, MIDDLE}
    assert renting.rent().gpu == DEAR and creates(renting.double) == 2, "one more create teaches it the description"


def test_a_type_that_the_account_may_not_rent_is_skipped(renting: Renting) -> None:
    renting.double.faults.forbidden = {CHEAP}
    assert renting.rent().gpu == MIDDLE


def test_while_nothing_is_free_the_request_is_repeated_and_a_message_says_so(renting: Renting) -> None:
    renting.double.faults.no_capacity = {CHEAP, MIDDLE, DEAR}
    rounds = []

    def free_one() -> None:
        rounds.append(renting.clock[0])
        if len(rounds) == 4:
            renting.double.faults.no_capacity = {CHEAP, MIDDLE}

    renting.on_pause = free_one
    assert renting.rent().gpu == DEAR and len(rounds) == 4
    assert [later - earlier for earlier, later in pairwise(rounds)] == [2, 4, 8]
    assert all("no longer any instances" in said for said in renting.said)


def test_after_the_capacity_timeout_the_last_answer_is_reported(renting: Renting) -> None:
    renting.double.faults.no_capacity = {CHEAP, MIDDLE, DEAR}
    with pytest.raises(NoPodError, match=r"within 30 s.*no longer any instances"):
        renting.rent(replace(ORDER, capacity_timeout_s=30))
    assert renting.clock[0] == 30


def test_a_run_that_was_withdrawn_gets_no_pod(renting: Renting) -> None:
    renting.double.faults.no_capacity = {CHEAP, MIDDLE, DEAR}
    renting.on_pause = lambda: renting.withdrawn.set()
    with pytest.raises(WithdrawnError):
        renting.rent()
    assert not renting.double.pods


def test_the_wait_ends_at_once_when_the_run_is_withdrawn() -> None:
    async def wait() -> None:
        withdrawn = asyncio.Event()
        waiting = asyncio.create_task(pause(600, withdrawn))
        await asyncio.sleep(0)
        withdrawn.set()
        await asyncio.wait_for(waiting, 60)
        await pause(0.001, asyncio.Event())

    asyncio.run(wait())


def test_a_rule_that_every_candidate_breaks_is_reported_at_once(renting: Renting) -> None:
    renting.double.faults.answers = [Fault("POST", "/v2/pods", 400, "volume vol_1 is in another data center", times=99)]
    with pytest.raises(NoPodError, match=r"not for lack of machines.*vol_1"):
        renting.rent()
    assert creates(renting.double) == 3


@pytest.mark.parametrize("status", [401, 402])
def test_an_error_of_the_account_ends_the_attempt_after_one_request(renting: Renting, status: int) -> None:
    renting.double.faults.answers = [Fault("POST", "/v2/pods", status, "no", times=99)]
    with pytest.raises(AccountError):
        renting.rent()
    assert creates(renting.double) == 1


def test_if_the_answer_to_a_create_is_lost_the_pod_is_looked_for_and_the_create_not_repeated(renting: Renting) -> None:
    renting.double.newer, renting.double.faults.lost_creates = True, 1
    pod = renting.rent()
    assert [found.id for found in renting.double.alive] == [pod.id] and creates(renting.double) == 1
    assert renting.lookup.looks == 1


def test_a_create_that_failed_for_certain_is_repeated_after_two_looks(renting: Renting) -> None:
    renting.double.newer = True
    renting.double.faults.answers = [Fault("POST", "/v2/pods", 503, "later")]
    renting.rent()
    assert renting.lookup.looks == 2 and len(renting.double.alive) == 1 and creates(renting.double) == 2


def test_withdrawing_a_run_ends_the_wait_for_its_lost_create(renting: Renting) -> None:
    """RunPod does not answer, so there will be no look. If the pod exists, the reconciler will find it."""
    renting.double.newer, renting.double.faults.lost_creates = True, 1

    async def never() -> None:
        renting.withdrawn.set()
        await asyncio.Event().wait()

    Looks.next_look, real = lambda self: never(), Looks.next_look  # type: ignore[assignment, method-assign]
    try:
        with pytest.raises(WithdrawnError):
            renting.rent()
    finally:
        Looks.next_look = real  # type: ignore[method-assign]
    assert creates(renting.double) == 1


LIMITED = replace(ORDER, marks=replace(ORDER.marks, max_price=5.0))


def test_a_pod_that_is_billed_above_the_maximum_price_is_deleted_at_once_and_the_next_type_rented(renting: Renting) -> None:
    renting.double.newer = True
    renting.double.faults.billed = {CHEAP: 30.0}
    pod = renting.rent(LIMITED)
    assert pod.gpu == MIDDLE and [found.id for found in renting.double.alive] == [pod.id]
    (dear,) = (found for found in renting.double.pods.values() if found.ended is not None)
    assert renting.said == [
        f"RunPod billed 30 USD per hour for {CHEAP}, above max_price_per_hour 5, so the pod {dear.id} is deleted and the next "
        "type is tried."
    ]
    assert marks_of(pod) == LIMITED.marks, "a later worker would not know the limit"


def test_if_the_answer_to_a_create_lacks_the_price_the_pod_is_asked_for_it(renting: Renting) -> None:
    renting.double.newer = True
    renting.double.faults.billed, renting.double.faults.price_after_create = {CHEAP: 30.0}, True
    assert renting.rent(LIMITED).gpu == MIDDLE and len(renting.double.alive) == 1


def test_if_every_type_is_billed_above_the_maximum_price_each_is_rented_once(renting: Renting) -> None:
    renting.double.newer = True
    renting.double.faults.billed = dict.fromkeys((CHEAP, MIDDLE, DEAR), 30.0)
    with pytest.raises(NoPodError, match=r"None of the 3 GPU types.*max_price_per_hour 5"):
        renting.rent(LIMITED)
    assert creates(renting.double) == 3 and not renting.double.alive


def test_an_expensive_pod_that_cannot_be_deleted_yet_is_left_to_the_checks(
    renting: Renting, monkeypatch: pytest.MonkeyPatch
) -> None:
    renting.double.newer = True
    renting.double.faults.billed = {CHEAP: 30.0}
    monkeypatch.setattr(Looks, "deaf", True)
    assert renting.rent(LIMITED).gpu == MIDDLE and len(renting.double.alive) == 2


def test_the_search_for_a_lost_create_ends_even_if_no_list_arrives(renting: Renting) -> None:
    renting.double.newer, renting.double.faults.lost_creates = True, 1
    renting.settings = renting.settings.model_copy(update={"look_every_s": 0.01})

    async def never() -> None:
        await asyncio.Event().wait()

    Looks.next_look, real = lambda self: never(), Looks.next_look  # type: ignore[assignment, method-assign]
    try:
        with pytest.raises(NoPodError, match="within 0 s"):
            renting.rent(replace(ORDER, capacity_timeout_s=0))
    finally:
        Looks.next_look = real  # type: ignore[method-assign]
    assert creates(renting.double) == 1


def test_an_existing_pod_of_the_attempt_is_used_and_that_of_an_earlier_attempt_is_not(renting: Renting) -> None:
    renting.double.newer = True
    earlier = replace(ORDER, marks=replace(ORDER.marks, attempt=0))
    first = renting.rent(earlier)
    later = replace(ORDER, marks=replace(ORDER.marks, attempt=1))
    renting.double.faults.lost_creates = 1
    second = renting.rent(later)
    assert second.id != first.id and len(renting.double.alive) == 2
    renting.double.faults.answers = [Fault("POST", "/v2/pods", 503, "later")]
    assert renting.rent(later).id == second.id and len(renting.double.alive) == 2


def test_provisioning_waits_for_a_catalogue_that_does_not_answer(renting: Renting) -> None:
    renting.double.faults.answers = [Fault("GET", "/v2/catalog/gpus", 500, "down")]
    assert renting.rent().gpu == CHEAP and "500" in renting.said[0]


def catalogue(prices: dict[str, float], free: set[str]) -> list[GpuType]:
    return [
        GpuType.model_validate({"id": g, "price": {"secure": p, "community": 0}, "availability": "LOW" if g in free else "NONE"})
        for g, p in prices.items()
    ]


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.1, 9), min_size=1),
    st.sets(st.sampled_from("abcdefgh")),
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True),
    st.floats(0.5, 20) | st.none(),
    st.integers(1, 4),
)
def test_candidates_are_within_the_price_with_free_types_first_in_order_of_preference(
    prices: dict[str, float], free: set[str], wanted: list[str], most: float | None, count: int
) -> None:
    order = replace(ORDER, marks=replace(ORDER.marks, max_price=most), gpu_types=tuple(wanted), gpu_count=count)
    possible = [g for g in wanted if g in prices and (most is None or round(prices[g] * count, 6) <= most)]
    if not possible:
        with pytest.raises(OrderError, match="gpu_types"):
            candidates(order, catalogue(prices, free))
        return
    found = candidates(order, catalogue(prices, free))
    assert [c.gpu for c in found] == [g for g in possible if g in free] + [g for g in possible if g not in free]
    assert all(c.price == pytest.approx(prices[c.gpu] * count, abs=1e-5) for c in found)


def test_the_message_names_gpu_types_that_are_too_expensive_or_not_offered() -> None:
    order = replace(ORDER, marks=replace(ORDER.marks, max_price=0.1), gpu_types=(CHEAP, "no such"))
    with pytest.raises(OrderError, match=r"NVIDIA L4 at 0.44 USD.*does not list no such"):
        candidates(order, catalogue({CHEAP: 0.44}, {CHEAP}))
    with pytest.raises(OrderError, match="COMMUNITY"):
        candidates(replace(ORDER, cloud="COMMUNITY"), catalogue({CHEAP: 0.44}, {CHEAP}))


def test_max_cost_shortens_the_lifetime_of_a_pod() -> None:
    marks = replace(ORDER.marks, max_cost=1.0)
    assert marks.life_s(2.0) == 1800 and marks.life_s(0.5) == marks.life_s(0.0) == ORDER.marks.life_s(9.0) == 3600
    order = replace(ORDER, marks=marks)
    assert order.body(CHEAP, 2.0, "exec")["env"]["PREFECT_POD_MAX_RUNTIME_S"] == "1800"


def test_a_body_contains_what_was_ordered_and_nothing_else(double: RunPodDouble) -> None:
    full = replace(
        ORDER,
        data_centers=("EU-RO-1",),
        network_volume="vol_1",
        registry="reg_1",
        min_cuda_version="12.8",
        gpu_count=2,
        disk_gb=99,
    )
    for order in (ORDER, full):
        assert not schema_errors("CreatePodRequest", order.body(CHEAP, 1.0, "args"))
        assert not schema_errors("CreatePodRequest", order.body(CHEAP, 1.0, "exec"), newer=True)
    body = full.body(CHEAP, 1.0, "exec")
    assert (
        body["gpu"] == {"id": CHEAP, "count": 2, "minCudaVersion": "12.8"} and body["registry"] == "reg_1" and body["disk"] == 99
    )
    assert body["mounts"] == {"network": [{"volumeId": "vol_1", "path": "/runpod-volume"}]} and body["dataCenterIds"] == [
        "EU-RO-1"
    ]
    assert {"dataCenterIds", "mounts", "registry"} & ORDER.body(CHEAP, 1.0, "exec").keys() == set()


@pytest.mark.parametrize("env", [{"X": "y" * 103_000}, {f"V{number}": "" for number in range(50)}])
def test_an_environment_that_runpod_would_refuse_is_refused_without_its_values(env: dict[str, str]) -> None:
    with pytest.raises(OrderError, match="Shorten the job variable env") as raised:
        replace(ORDER, env={**env, "TOKEN": "tok-1188"}).body(CHEAP, 1.0, "exec")
    assert "tok-1188" not in str(raised.value) and "tok-1188" not in repr(replace(ORDER, env={"TOKEN": "tok-1188"}))
