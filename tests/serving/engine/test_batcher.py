"""Requests that wait together are answered together, each with its own result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from configs.errors import OverloadedError
from serving.engine import Batcher


class Tens:
    """An engine that records its batches and refuses negative jobs."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, jobs: Sequence[int]) -> list[Any]:
        self.batches.append(list(jobs))
        return [ValueError(str(job)) if job < 0 else job * 10 for job in jobs]


def test_requests_that_are_ready_together_form_one_batch_of_at_most_the_allowed_size() -> None:
    engine, sizes = Tens(), list[int]()
    batcher = Batcher(engine, most=4, queue=100, on_batch=sizes.append)

    async def run() -> list[Any]:
        first = await batcher.submit(0)
        return [first, *await asyncio.gather(*(batcher.submit(job) for job in (1, -2, 3, 4, 5)), return_exceptions=True)]

    results = asyncio.run(run())
    assert engine.batches == [[0], [1, -2, 3, 4], [5]] and sizes == [1, 4, 1]
    assert isinstance(results[2], ValueError) and [r for r in results if not isinstance(r, ValueError)] == [0, 10, 30, 40, 50]


def test_requests_with_many_events_are_computed_in_several_turns_of_the_loop() -> None:
    engine, turns = Tens(), list[int]()
    batcher = Batcher(engine, most=32, queue=100, events_of=lambda job: job)

    async def other() -> None:
        while True:
            turns.append(len(engine.batches))
            await asyncio.sleep(0)

    async def run() -> list[Any]:
        watching = asyncio.create_task(other())
        results = await asyncio.gather(*(batcher.submit(job) for job in (5000, 400, 600, 1, 999, 2, 0, 0)))
        watching.cancel()
        return results

    assert asyncio.run(run()) == [50000, 4000, 6000, 10, 9990, 20, 0, 0]
    assert engine.batches == [[5000], [400, 600], [1, 999], [2, 0, 0]]
    assert set(turns) >= {1, 2, 3}  # others had a turn between two batches


def test_requests_that_arrive_while_a_batch_is_computed_form_the_next_one() -> None:
    batches, later = list[list[int]](), list[asyncio.Task[Any]]()

    def process(jobs: Sequence[int]) -> list[int]:
        batches.append(list(jobs))
        if not later:
            later.extend(asyncio.create_task(batcher.submit(job)) for job in (2, 3))
        return list(jobs)

    batcher = Batcher(process, most=4, queue=100)

    async def run() -> list[int]:
        first = await batcher.submit(1)
        return [first, *await asyncio.gather(*later)]

    assert asyncio.run(run()) == [1, 2, 3] and batches == [[1], [2, 3]]


def test_more_requests_than_may_wait_are_turned_away_and_offers_give_way() -> None:
    engine, told = Tens(), list[Any]()
    batcher = Batcher(engine, most=2, queue=3)

    async def offer(job: int) -> bool:
        return batcher.offer(job, told.append)

    async def run() -> list[Any]:
        # They all come in one turn of the loop, in this order.
        asked = [batcher.submit(1), offer(7), offer(8), batcher.submit(2), batcher.submit(3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    *answered, refused = asyncio.run(run())
    assert answered == [10, True, False, 20] and isinstance(refused, OverloadedError)
    assert told == [70] and engine.batches == [[1, 7], [2]]


def test_requests_that_wait_at_the_end_are_answered_and_a_client_that_left_harms_nobody() -> None:
    engine = Tens()
    batcher = Batcher(engine, most=1, queue=100)

    async def run() -> list[int]:
        left, *stay = [asyncio.create_task(batcher.submit(job)) for job in (1, 2, 3)]
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        batcher.close()
        assert len(batcher) == 0
        return await asyncio.gather(*stay)

    assert asyncio.run(run()) == [20, 30] and engine.batches == [[1], [2], [3]]


def test_an_engine_that_raises_fails_each_job_of_its_batch_and_goes_on() -> None:
    calls: list[int] = []

    def process(jobs: Sequence[int]) -> list[int]:
        calls.append(len(jobs))
        if len(calls) == 1:
            raise RuntimeError("broken")
        return list(jobs)

    batcher = Batcher(process, most=10, queue=100)

    async def run() -> int:
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.submit(1)
        result: int = await batcher.submit(2)
        return result

    assert asyncio.run(run()) == 2


def test_the_work_between_batches_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.batcher.BETWEEN_S", 0.001)
    done = asyncio.Event()
    calls: list[int] = []

    def between() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("broken")
        done.set()

    async def run() -> int:
        batcher = Batcher(Tens(), most=1, queue=1, between=between)
        batcher.start()
        await asyncio.wait_for(done.wait(), 30)
        batcher.close()
        ended = len(calls)
        await asyncio.sleep(0.02)
        return len(calls) - ended

    assert asyncio.run(run()) == 0 and len(calls) >= 2
