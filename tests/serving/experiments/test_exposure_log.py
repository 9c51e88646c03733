"""The exposure log loses nothing it can keep, tells what it cannot, and never makes a request wait."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from configs.errors import SourceError, StoreUnavailableError
from configs.serving import ExposureSettings
from infra.storage.local import LocalStore
from serving.experiments import Exposure, ExposureLog, read_exposures, stored_exposures


def exposure(number: int) -> Exposure:
    return Exposure(1000 + number, number, f"r{number}", "v1", [3, 1, 2], "e", "control", "abc")


def settings(folder: Path, **more: float) -> ExposureSettings:
    return ExposureSettings.model_validate({"folder": folder, "flush_s": 0.01} | more)


def test_what_is_written_is_read_in_order_and_whole(tmp_path: Path) -> None:
    log = ExposureLog(settings(tmp_path))
    written = [exposure(number) for number in range(500)]
    for each in written:
        log.write(each)
    assert log.flush()
    assert list(read_exposures(tmp_path)) == written  # before the end too
    log.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    assert list(read_exposures(next(tmp_path.iterdir()))) == written
    assert (log.written, log.dropped) == (500, 0)
    log.close()


def test_files_are_rotated_and_many_threads_write_each_line_once(tmp_path: Path) -> None:
    log = ExposureLog(settings(tmp_path, rotate_bytes=2000))

    def work(start: int) -> None:
        for number in range(start, start + 100):
            log.write(exposure(number))
            if number % 20 == 0:
                log.flush()

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert len(list(tmp_path.iterdir())) > 1
    assert sorted(each.time - 1000 for each in read_exposures(tmp_path)) == list(range(400))


def test_a_killed_process_leaves_readable_lines_and_another_one_finishes_its_file(tmp_path: Path) -> None:
    code = f"""
import sys, time
from configs.serving.experiments import ExposureSettings
from serving.experiments import Exposure, ExposureLog
log = ExposureLog(ExposureSettings(folder={str(tmp_path / "log")!r}, flush_s=0.01))
for number in range(50):
    log.write(Exposure(number, number, "r", "v1", [1]))
log.flush()
print("ready", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (path,) = (tmp_path / "log").iterdir()
    with path.open("ab") as file:
        file.write(b'{"time": 1, "us')  # as if it had been killed in the middle of a write
    assert len(list(read_exposures(tmp_path / "log"))) == 50
    store = LocalStore(tmp_path / "store")
    for number in range(2):  # beside each other, as workers are
        log = ExposureLog(settings(tmp_path / "log"), store)
        log.write(exposure(number))
        assert log.flush()
        if number == 0:
            first = log
    log.close()
    assert {each.user for each in read_exposures(tmp_path / "log")} == {0}, "what is being written stays its writer's"
    first.close()
    assert sorted(each.user for each in stored_exposures(store)) == sorted([*range(50), 0, 1])
    assert not list((tmp_path / "log").iterdir())


def test_a_full_disk_or_queue_drops_counts_and_recovers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "log"
    folder.write_text("a file where the folder should be")
    log = ExposureLog(settings(folder))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            log.write(exposure(1))
            log.flush()
    assert log.dropped == 3 and log.written == 0
    assert len([record for record in caplog.records if "being lost" in record.message]) == 1
    folder.unlink()
    log.write(exposure(2))
    log.close()
    assert [each.user for each in read_exposures(folder)] == [2] and log.dropped == 3


def test_more_than_the_queue_holds_is_dropped_without_waiting(tmp_path: Path) -> None:
    gate = threading.Event()

    class Slow(ExposureLog):
        def _gather(self) -> tuple[list[Exposure], list[threading.Event], bool]:
            gate.wait()
            return super()._gather()

    log = Slow(settings(tmp_path, queue=5))
    for number in range(8):
        log.write(exposure(number))
    assert log.dropped == 3
    gate.set()
    log.close()
    assert [each.user for each in read_exposures(tmp_path)] == [0, 1, 2, 3, 4]


def test_whole_files_go_to_the_store_and_wait_where_it_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    first = ExposureLog(settings(tmp_path / "log"), store)
    first.write(exposure(1))
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put_new", lambda *_: (_ for _ in ()).throw(StoreUnavailableError("gone")))
        first.close()
    assert len(list((tmp_path / "log").iterdir())) == 1
    second = ExposureLog(settings(tmp_path / "log"), store)
    second.write(exposure(2))
    second.close()
    assert not list((tmp_path / "log").iterdir())
    assert [each.user for each in stored_exposures(store)] == [1, 2]
    with pytest.raises(SourceError, match="holds no exposures"):
        list(stored_exposures(LocalStore(tmp_path / "empty")))


def test_a_line_that_is_no_exposure_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        json.dumps({"time": 1, "user": 2, "request": "r", "version": "v", "items": [1]}) + "\n" + '{"time": "late"}\n'
    )
    with pytest.raises(SourceError, match=r"x\.jsonl, line 2 is not a valid exposure"):
        list(read_exposures(path))
    with pytest.raises(SourceError, match="holds no exposures"):
        list(read_exposures(tmp_path / "none"))
    assert os.path.exists(path)
