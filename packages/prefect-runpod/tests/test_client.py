"""The client with the double, and with answers that the double never gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_runpod.api import (
    AmbiguousError,
    CandidateForbiddenError,
    CandidateRefusedError,
    Pod,
    RequestRefusedError,
    RunPodClient,
    RunPodError,
    UnavailableError,
)
from prefect_runpod.api.errors import AccountError, PodConflictError, PodNotFoundError, RateLimitedError, sorted_error
from prefect_runpod.api.pacing import Pace
from prefect_runpod.settings import RunPodSettings
from runpod_double.faults import Fault
from runpod_double.runpod_api import ACCOUNT_KEY, RunPodDouble

BODY = {"name": "x", "image": "i", "gpu": {"id": "NVIDIA L4"}, "args": "sleep 60", "env": {"TOKEN": "tok-9921"}}
T = TypeVar("T")


def use(double: RunPodDouble, act: Callable[[RunPodClient], Awaitable[T]], key: str = ACCOUNT_KEY) -> T:
    async def within() -> T:
        settings = RunPodSettings(base_url=double.url, backoff_s=0.01, timeout_s=60)
        async with RunPodClient(SecretStr(key), settings) as client:
            return await act(client)

    return asyncio.run(within())


def answering(*answers: httpx.Response | Exception, sleeps: list[float] | None = None) -> RunPodClient:
    """Return a client whose requests get these answers, one after the other."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def sleep(seconds: float) -> None:
        if sleeps is not None:
            sleeps.append(seconds)

    pace = Pace(1000, sleep=sleep, clock=lambda: sum(sleeps or []))
    return RunPodClient(SecretStr("k"), RunPodSettings(), httpx.MockTransport(answer), sleep, pace)


def problem(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"title": "T", "status": status, "detail": "why"}, headers=headers)


def test_a_pod_is_rented_listed_read_and_deleted(double: RunPodDouble) -> None:
    async def life(client: RunPodClient) -> None:
        pod = await client.create_pod(BODY)
        assert [found.id for found in await client.list_pods()] == [pod.id]
        assert (await client.get_pod(pod.id)).gpu == "NVIDIA L4"
        assert await client.delete_pod(pod.id) is True and await client.delete_pod(pod.id) is False
        with pytest.raises(PodNotFoundError):
            await client.get_pod(pod.id)

    use(double, life)


def test_a_pod_prints_without_its_environment(double: RunPodDouble) -> None:
    pod = use(double, lambda client: client.create_pod(BODY))
    assert pod.env["TOKEN"] == "tok-9921" and "tok-9921" not in f"{pod!r} {pod}"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, CandidateRefusedError),
        (401, AccountError),
        (402, AccountError),
        (403, CandidateForbiddenError),
        (404, RequestRefusedError),
        (409, PodConflictError),
        (413, RequestRefusedError),
        (418, RequestRefusedError),
        (422, RequestRefusedError),
        (500, AmbiguousError),
        (503, AmbiguousError),
        (504, AmbiguousError),
    ],
)
def test_a_refused_create_raises_the_matching_error_and_is_never_repeated(
    double: RunPodDouble, status: int, kind: type[RunPodError]
) -> None:
    double.faults.answers = [Fault("POST", "/v2/pods", status, "why", times=99)]
    with pytest.raises(kind, match=f"{status}.*why") as raised:
        use(double, lambda client: client.create_pod(BODY))
    assert double.count("POST", "/v2/pods") == 1 and "tok-9921" not in str(raised.value)


@given(st.integers(400, 599), st.booleans(), st.text(max_size=30))
def test_every_status_has_its_kind_of_error(status: int, creating: bool, detail: str) -> None:
    error = sorted_error(status, {"detail": detail}, "it", creating=creating, wait_s=1)
    assert str(status) in str(error) and isinstance(error, RunPodError)
    assert isinstance(error, AmbiguousError) == (creating and (status >= 500 or status == 408))
    assert isinstance(error, PodNotFoundError) == (status == 404 and not creating)


def test_a_lack_of_machines_is_distinguished_from_a_broken_rule(double: RunPodDouble) -> None:
    double.faults.no_capacity = {"NVIDIA L4"}
    with pytest.raises(CandidateRefusedError) as sold_out:
        use(double, lambda client: client.create_pod(BODY))
    with pytest.raises(CandidateRefusedError) as broken:
        use(double, lambda client: client.create_pod({**BODY, "gpu": {"id": "no such"}}))
    assert sold_out.value.capacity and not broken.value.capacity


def test_a_lost_answer_to_a_create_is_ambiguous_and_one_that_was_never_sent_is_not(double: RunPodDouble) -> None:
    double.faults.lost_creates = 1
    with pytest.raises(AmbiguousError):
        use(double, lambda client: client.create_pod(BODY))
    assert len(double.alive) == 1
    with pytest.raises(UnavailableError):
        asyncio.run(answering(httpx.ConnectError("refused")).create_pod(BODY))
    with pytest.raises(AmbiguousError):
        asyncio.run(answering(httpx.ReadTimeout("slow")).create_pod(BODY))
    with pytest.raises(AmbiguousError):  # the pod was created, but the answer cannot be read
        asyncio.run(answering(httpx.Response(201, text="<html>")).create_pod(BODY))


def test_reads_and_deletions_are_repeated_with_growing_pauses() -> None:
    sleeps: list[float] = []
    client = answering(problem(503), httpx.ReadError("cut"), httpx.Response(204), sleeps=sleeps)
    assert asyncio.run(client.delete_pod("x")) is True
    assert len(sleeps) == 2 and 0.75 <= sleeps[0] <= 1.25 and 1.5 <= sleeps[1] <= 2.5
    with pytest.raises(UnavailableError, match="502"):
        asyncio.run(answering(*[httpx.Response(502, text="<html>bad gateway")] * 4).delete_pod("x"))
    with pytest.raises(UnavailableError):  # one try: a caller that lists at a steady pace needs no more
        asyncio.run(answering(problem(503)).list_pods())


def test_a_deletion_succeeds_after_an_outage_of_two_minutes() -> None:
    sleeps: list[float] = []
    settings = RunPodSettings(attempts=12, max_backoff_s=20)
    down = [httpx.ConnectError("refused")] * 9

    def answer(request: httpx.Request) -> httpx.Response:
        if down:
            raise down.pop()
        return httpx.Response(204)

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)

    client = RunPodClient(SecretStr("k"), settings, httpx.MockTransport(answer), sleep)
    assert asyncio.run(client.delete_pod("x")) and sum(sleeps) > 75 and max(sleeps) <= 25


def test_all_requests_wait_as_long_as_retry_after_says() -> None:
    sleeps: list[float] = []
    client = answering(problem(429, **{"Retry-After": "17"}), httpx.Response(200, json={"pods": []}), sleeps=sleeps)
    assert asyncio.run(client.list_pods(attempts=2)) == [] and sum(sleeps) == pytest.approx(17)
    with pytest.raises(RateLimitedError):
        asyncio.run(answering(*[problem(429, **{"Retry-After": "1"})] * 4, sleeps=[]).create_pod(BODY))
    sleeps.clear()
    made = httpx.Response(201, json={"id": "p", "status": "RUNNING"})
    assert asyncio.run(answering(problem(429), made, sleeps=sleeps).create_pod(BODY)).id == "p"
    assert sum(sleeps) == pytest.approx(60), "the window of the shortest limit, because the answer does not say how long"


def test_no_wait_is_longer_than_a_minute_whatever_runpod_asks_for() -> None:
    sleeps: list[float] = []
    day = {"Retry-After": "86400", "RateLimit": '"day";r=0;t=86400', "RateLimit-Policy": '"day";q=1;w=86400'}
    answers = [problem(429, **day), httpx.Response(204, headers=day), httpx.Response(204, headers=day)]
    client = answering(*answers, sleeps=sleeps)
    for _ in range(2):
        assert asyncio.run(client.delete_pod("x")) is True
    assert sum(sleeps) == pytest.approx(120), "one minute for each further request"


def test_a_postponed_create_delays_neither_a_deletion_nor_a_look() -> None:
    sleeping, deleted = asyncio.Event(), httpx.Response(204)
    answers = {"POST": problem(429, **{"Retry-After": "50"}), "DELETE": deleted, "GET": httpx.Response(200, json={"pods": []})}

    async def sleep(seconds: float) -> None:
        if seconds > 1:
            sleeping.set()
            await asyncio.Event().wait()

    async def both() -> None:
        transport = httpx.MockTransport(lambda request: answers[request.method])
        client = RunPodClient(SecretStr("k"), RunPodSettings(), transport, sleep)
        creating = asyncio.create_task(client.create_pod(BODY))
        await asyncio.wait_for(sleeping.wait(), 60)
        assert await asyncio.wait_for(client.delete_pod("x"), 60) and await asyncio.wait_for(client.list_pods(), 60) == []
        creating.cancel()

    asyncio.run(both())


def test_an_answer_that_never_ends_is_cut_off() -> None:
    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0.005)
                yield b" "

    settings = RunPodSettings(timeout_s=0.05, attempts=1)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Trickle()))
    client = RunPodClient(SecretStr("k"), settings, transport)
    with pytest.raises(UnavailableError, match="did not answer"):
        asyncio.run(asyncio.wait_for(client.list_pods(), 60))
    with pytest.raises(AmbiguousError):
        asyncio.run(asyncio.wait_for(client.create_pod(BODY), 60))


ODD = [b"<html>", b"", b"null", b"7", b'"x"', b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"pods": [[]]}', b'{"gpus": [null]}']


@pytest.mark.parametrize("content", ODD, ids=lambda content: str(content[:12]))
@pytest.mark.parametrize("status", [200, 201, 302, 400, 404, 429, 500])
def test_any_answer_is_a_value_or_an_error_of_runpod(content: bytes, status: int) -> None:
    headers = {"Retry-After": "²", "Date": "Mon, 16 Nov 2009 13:32:02 -0000", "RateLimit": "x", "RateLimit-Policy": '"a";q=0;w=0'}

    async def ask() -> None:
        async def sleep(seconds: float) -> None:
            assert seconds <= 75

        pace = Pace(10_000, sleep=sleep, clock=lambda: 0.0, most_s=0.0)
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        transport = httpx.MockTransport(lambda request: httpx.Response(status, content=content, headers=raw))
        client = RunPodClient(SecretStr("k"), RunPodSettings(), transport, sleep, pace)
        for act in (
            client.list_pods(),
            client.get_pod("x"),
            client.create_pod(BODY),
            client.delete_pod("x"),
            client.gpu_types(count=1, cloud="SECURE"),
            client.log_tail("x", 5),
        ):
            with suppress(RunPodError):
                assert await act in (True, False, [])

    asyncio.run(ask())


def test_an_answer_about_another_pod_is_not_accepted() -> None:
    with pytest.raises(UnavailableError, match="with the pod y"):
        asyncio.run(answering(*[httpx.Response(200, json={"id": "y", "status": "RUNNING"})] * 4).get_pod("x"))


@pytest.mark.parametrize(
    "content", [{"pods": [{"id": "x"}]}, {"pods": "none"}, {}, [], {"pods": [{"id": "", "status": "RUNNING"}]}]
)
def test_a_list_without_a_readable_entry_is_not_accepted(content: Any) -> None:
    with pytest.raises(UnavailableError):
        asyncio.run(answering(httpx.Response(200, json=content)).list_pods())


def test_an_unreadable_entry_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    good = {"id": "x", "status": "RUNNING", "env": {"TOKEN": "tok-9921"}}
    pods = [good, {"id": "y", "env": {"TOKEN": "tok-9921"}}, None, {**good, "status": "EXITED"}]
    (found,) = asyncio.run(answering(httpx.Response(200, json={"pods": pods})).list_pods())
    assert (found.id, found.status) == ("x", "RUNNING"), "a pod that is listed twice must count once"
    assert "2 of 4 pods in RunPod's answer are left out" in caplog.text and "tok-9921" not in caplog.text


def test_unknown_fields_are_ignored_and_unneeded_ones_may_be_absent() -> None:
    pod = Pod.model_validate({"id": "x", "status": "HIBERNATING", "runtime": None, "env": None, "novel": {"a": 1}})
    assert pod.status == "HIBERNATING" and pod.uptime_s is None and pod.cost == 0 and pod.created_at is None
    naive = Pod.model_validate({"id": "x", "status": "RUNNING", "createdAt": "2026-11-01T12:00:00"})
    assert naive.created_at is not None and naive.created_at.tzinfo is not None


def test_the_end_of_a_log_is_read_without_waiting_for_more(double: RunPodDouble) -> None:
    async def tail(client: RunPodClient) -> list[str]:
        pod = await client.create_pod(BODY)
        while not double.pods[pod.id].lines:
            await asyncio.sleep(0.02)
        for number in range(5):
            double.pods[pod.id].log("container", f"line {number}")
        # The stream stays open, so each call takes all of its time. On a busy machine the first may be too short.
        for seconds in (0.5, 5, 30):
            found = await client.log_tail(pod.id, 2, seconds=seconds)
            if len(found) == 2:
                break
        assert await client.log_tail(pod.id, 0) == [] and await client.log_tail("no such pod", 5, seconds=1) == []
        return found

    assert use(double, tail) == ["line 3", "line 4"]


def test_a_log_line_that_is_not_json_is_kept_as_it_is() -> None:
    client = answering(httpx.Response(200, text="id: 1\ndata: plain words\n\ndata: {}\n\n"))
    assert asyncio.run(client.log_tail("x", 5)) == ["plain words", "{}"]


def test_the_key_is_sent_and_never_printed(double: RunPodDouble) -> None:
    with pytest.raises(AccountError) as raised:
        use(double, lambda client: client.list_pods(), key="rpa_wrong-5511")
    assert "rpa_wrong-5511" not in str(raised.value) and "RunPod Credentials" in str(raised.value)


def test_values_of_the_environment_are_masked_where_a_refusal_quotes_them() -> None:
    async def create() -> None:
        said = {"title": "Unprocessable", "status": 422, "detail": "env.DB: 'postgres://u:pw-4711@db/x' is too long, hf-99887"}
        said |= {"errors": ["$.env.HF_TOKEN: 'hf-99887' does not match", "$.env.CERT_KEY: 'line-two-of-it'", "rpa_0123456789AB"]}
        env = {
            "HF_TOKEN": "hf-99887",
            "DB": "postgres://u:pw-4711@db/x",
            "CERT_KEY": "line-one-of-it\nline-two-of-it",
            "MODE": "fast",
        }
        client = answering(httpx.Response(422, json=said))
        with pytest.raises(RequestRefusedError) as caught:
            await client.create_pod({**BODY, "env": env})
        shown = f"{caught.value} {caught.value.errors}"
        assert not any(secret in shown for secret in ("hf-99887", "pw-4711", "line-two-of-it", "rpa_"))
        assert "env.HF_TOKEN: '********' does not match" in shown

    asyncio.run(create())


@pytest.mark.parametrize(("ahead_s", "taken"), [(0.0, 0.0), (1.5, 0.0), (3600.0, 3600.0), (-40.0, -40.0)])
def test_the_time_is_that_of_runpods_clock_which_dates_the_pods(ahead_s: float, taken: float) -> None:
    here = datetime(2026, 11, 1, 12, tzinfo=UTC)
    date = format_datetime(here - timedelta(seconds=ahead_s), usegmt=True)
    answers = [
        httpx.Response(200, json={"pods": []}, headers={"date": date}),
        httpx.Response(200, json={"pods": []}, headers={"date": "soon"}),
        httpx.Response(200, json={"pods": []}),
    ]
    client = RunPodClient(SecretStr("k"), RunPodSettings(), httpx.MockTransport(lambda _: answers.pop(0)), now=lambda: here)

    async def look() -> None:
        while answers:
            await client.list_pods()
            assert client.time() == here - timedelta(seconds=taken), "a header without a usable time must change nothing"

    asyncio.run(look())


def test_pods_of_every_kind_in_the_account_are_read() -> None:
    """A CPU pod, and one whose price or name is null: they are not ours, and must not spoil the list."""
    kinds = [
        {"id": "cpu", "status": "RUNNING", "gpu": None, "cpu": {"id": "cpu5c"}, "cost": None, "name": None, "env": None},
        {"id": "new", "status": "STARTING", "gpu": {"id": None, "count": None}, "runtime": {"uptime": None}, "createdAt": None},
    ]

    async def look() -> list[Pod]:
        return await answering(httpx.Response(200, json={"pods": kinds})).list_pods()

    cpu, new = asyncio.run(look())
    assert (cpu.gpu, cpu.gpu_count, cpu.cost, cpu.env) == ("", 1, 0.0, {}) and (new.uptime_s, new.created_at) == (None, None)
