"""Requests within the limits of the account."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from prefect_runpod.api.pacing import Pace


@given(st.lists(st.floats(0, 30), max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_no_window_ever_has_more_requests_than_its_limit(gaps: list[float], few: int, many: int) -> None:
    clock, sent = [0.0], []
    limits = [(few, 10.0), (few * many, 60.0)]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    async def send() -> None:
        pace = Pace(1, reserved=0.0, clock=lambda: clock[0], sleep=sleep)
        pace.heed({"ratelimit-policy": ", ".join(f'"x";q={q};w={w:g}' for q, w in limits)})
        for gap in gaps:
            clock[0] += gap
            await pace.turn()
            sent.append(clock[0])

    asyncio.run(send())
    for quota, window in limits:
        for at in sent:
            assert sum(at <= other < at + window - 1e-6 for other in sent) <= quota


def test_requests_wait_for_a_limit_that_others_have_used_up() -> None:
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    pace = Pace(10, clock=lambda: clock[0], sleep=sleep)
    pace.heed({"ratelimit": '"minute";r=0;t=12, "hour";r=2999;t=3600'})
    asyncio.run(pace.turn())
    assert clock[0] == 12


def test_a_deletion_may_use_requests_that_others_must_leave() -> None:
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    async def send() -> None:
        pace = Pace(10, clock=lambda: clock[0], sleep=sleep)
        pace.heed({"ratelimit-policy": '"minute";q=20;w=60'})
        for _ in range(18):
            await pace.turn()
        await pace.turn("delete")
        assert clock[0] == 0
        await pace.turn("create")
        assert clock[0] == 60

    asyncio.run(send())
