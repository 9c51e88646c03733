"""An accepted outcome is on the disk, also after a kill, and one that cannot be written is refused."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from configs.errors import OverloadedError
from configs.serving import OutcomeSettings
from infra.storage.local import LocalStore
from serving.experiments import Outcome, OutcomeLog, read_outcomes, stored_outcomes


def outcome(number: int) -> Outcome:
    return Outcome(number, "click", 1_790_000_000, 1_790_000_000, item_id=3, request_id=f"r{number}")


def started(folder: Path, store: LocalStore | None = None, **more: int) -> OutcomeLog:
    log = OutcomeLog(OutcomeSettings.model_validate({"folder": folder} | more), store)
    log.start()
    return log


async def written(log: OutcomeLog, *numbers: int) -> list[BaseException | None]:
    return await asyncio.gather(*[log.write([outcome(each)]) for each in numbers], return_exceptions=True)


def users(folder: Path) -> list[int]:
    return sorted(map(int, read_outcomes(folder)["user"]))


def test_outcomes_are_on_the_disk_when_their_requests_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    really = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda number: (synced.append(number), really(number))[1])
    log = started(tmp_path)
    assert asyncio.run(written(log, *range(50))) == [None] * 50
    assert users(tmp_path) == list(range(50)) and 1 <= len(synced) < 50  # requests share a write
    log.close(60)
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"] and users(tmp_path) == list(range(50))
    with pytest.raises(OverloadedError, match="stopping"):
        asyncio.run(log.write([outcome(99)]))


def test_a_disk_that_fails_refuses_outcomes_and_leaves_no_part_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[str] = []
    log = OutcomeLog(OutcomeSettings(folder=tmp_path), None, failures.append)
    log.start()
    assert asyncio.run(written(log, 1)) == [None]

    def failing(number: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        (refused,) = asyncio.run(written(log, 2))
        assert isinstance(refused, OverloadedError) and "send them again" in str(refused)
        assert users(tmp_path) == [1] and failures == ["outcomes"]
    assert asyncio.run(written(log, 2)) == [None]
    log.close(60)
    assert users(tmp_path) == [1, 2]


def test_requests_beyond_the_queue_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, begun = threading.Event(), threading.Event()

    def slow(number: int) -> None:
        begun.set()
        gate.wait(60)

    monkeypatch.setattr(os, "fdatasync", slow)
    log = started(tmp_path, queue=1)

    async def work() -> None:
        first = asyncio.ensure_future(log.write([outcome(1)]))
        await asyncio.to_thread(begun.wait, 60)
        second = asyncio.ensure_future(log.write([outcome(2)]))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="wait for the disk"):
            await log.write([outcome(3)])
        gate.set()
        await asyncio.gather(first, second)

    asyncio.run(work())
    log.close(60)
    assert users(tmp_path) == [1, 2]


def test_what_a_killed_server_accepted_goes_to_the_store_once(tmp_path: Path) -> None:
    code = f"""
import asyncio, time
from pathlib import Path
from tests.serving.experiments.test_outcome_log import started, written
log = started(Path({str(tmp_path / "log")!r}))
asyncio.run(written(log, *range(20)))
print("ready", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    store = LocalStore(tmp_path / "store")
    one, two = started(tmp_path / "log", store), started(tmp_path / "log", store)  # as two workers
    asyncio.run(written(one, 5, 6))  # sent again, because no answer arrived
    asyncio.run(written(two, 6, 30))
    one.close(60)
    two.close(60)
    assert sorted(map(int, stored_outcomes(store)["user"])) == [*range(20), 30]
    assert not list((tmp_path / "log").iterdir())
