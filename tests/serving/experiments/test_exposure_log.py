"""The exposure log loses nothing that it can keep, reports what it cannot keep, and never makes a request wait."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import CredentialRetrievalError, EndpointConnectionError, NoCredentialsError

from configs.errors import SourceError, StoreDeniedError, StoreUnavailableError
from configs.serving import ExposureSettings
from infra.storage.local import LocalStore
from serving import background
from serving.experiments import Exposure, ExposureLog, log_files, read_exposures, stored_exposures


def exposure(number: int) -> Exposure:
    return Exposure(1000 + number, number, f"r{number}", "v1", [3, 1, 2], "e", "control", "abc")


def settings(folder: Path, **more: float) -> ExposureSettings:
    return ExposureSettings.model_validate({"folder": folder, "flush_s": 0.01} | more)


def test_exposures_are_read_completely_and_in_order(tmp_path: Path) -> None:
    log = ExposureLog(settings(tmp_path))
    written = [exposure(number) for number in range(500)]
    for each in written:
        log.write(each)
    assert log.flush(60)
    assert list(read_exposures(tmp_path)) == written  # even before the log is closed
    log.close(60)
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    assert list(read_exposures(next(tmp_path.iterdir()))) == written
    assert (log.written, log.dropped) == (500, 0)
    log.close(60)


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
    log.close(60)
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
log.flush(60)
print("ready", flush=True)
time.sleep(600)
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
    for number in range(2):  # both logs are open at the same time, as those of two workers are
        log = ExposureLog(settings(tmp_path / "log"), store)
        log.write(exposure(number))
        assert log.flush(60)
        if number == 0:
            first = log
    log.close(60)
    until, files = time.monotonic() + 60, list[Path]()
    while len(files) != 1 and time.monotonic() < until:  # the first log may be uploading the file of the killed process
        files = list((tmp_path / "log").iterdir())
    assert {each.user for each in read_exposures(*files)} == {0}, "a file that its writer still had open was uploaded"
    first.close(60)
    assert sorted(each.user for each in stored_exposures(store)) == sorted([*range(50), 0, 1])
    assert not list((tmp_path / "log").iterdir())


DISK_ERRORS = [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE, errno.EROFS, errno.EDQUOT]


@pytest.mark.parametrize("code", DISK_ERRORS)
def test_while_the_disk_fails_exposures_wait_and_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    failures: list[str] = []
    log = ExposureLog(settings(tmp_path / "log"), on_failure=failures.append)
    log.write(exposure(0))
    assert log.flush(60)
    with caplog.at_level(logging.ERROR), monkeypatch.context() as patch:
        patch.setattr(FailingFile, "code", code)
        patch.setattr(log_files, "FileIO", FailingFile)
        log._let_go()  # the next batch opens another file
        for number in range(1, 4):
            log.write(exposure(number))
            assert not log.flush(60)
            until, files = time.monotonic() + 60, 0
            while files != 1 and time.monotonic() < until:  # a retry that has just begun has a file of its own
                files = len(list((tmp_path / "log").iterdir()))
            assert files == 1
    assert log.dropped == 0 and set(failures) == {"exposures"}
    assert len([record for record in caplog.records if "wait in memory" in record.message]) == 1
    log.write(exposure(4))
    log.close(60)
    assert [each.user for each in read_exposures(tmp_path / "log")] == [0, 1, 2, 3, 4] and (log.dropped, log.written) == (0, 5)


class FailingFile(FileIO):
    """A file that takes a part of each write before the disk fails."""

    code = 0

    def write(self, data: Any) -> int:
        super().write(bytes(data)[:20])
        raise OSError(self.code, os.strerror(self.code))


def test_a_failed_write_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    log = ExposureLog(settings(tmp_path))
    log.write(exposure(0))
    assert log.flush(60)
    whole, log._file = log._file, None
    assert whole is not None and log._path is not None
    log._file = FailingFile(os.dup(whole.fileno()), "wb")  # keeps the lock, so that nobody takes the file for an abandoned one
    whole.close()
    log.write(exposure(1))
    assert not log.flush(60)
    until, content = time.monotonic() + 60, b""
    while not content.endswith(b"}\n") and time.monotonic() < until:  # a retry that has just begun has written a part of the line
        content = log._path.read_bytes()
    assert content.endswith(b"}\n") and [each.user for each in read_exposures(tmp_path)] == [0]
    FailingFile.write, failing = FileIO.write, FailingFile.write  # type: ignore[method-assign]
    try:
        log.close(60)
    finally:
        FailingFile.write = failing  # type: ignore[method-assign]
    assert [each.user for each in read_exposures(tmp_path)] == [0, 1]


def test_exposures_that_wait_for_the_disk_are_bounded_and_dropped_ones_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "log"
    folder.write_text("a file where the folder should be")
    log = ExposureLog(settings(folder, queue=5, flush_s=60))  # so that the flush leaves the queue together with the exposure
    log.write(exposure(0))
    assert not log.flush(60)
    with caplog.at_level(logging.ERROR):
        for number in range(1, 9):
            log.write(exposure(number))
    assert log.dropped == 3 and log.written == 0
    assert len([record for record in caplog.records if "being lost" in record.message]) == 1
    log.close(60)
    assert log.dropped == 9 and log.written == 0


def test_an_exposure_that_is_not_json_harms_no_other(tmp_path: Path) -> None:
    log = ExposureLog(settings(tmp_path))
    for each in (exposure(1), Exposure(2, object(), "r", "v1", [1]), exposure(3)):  # type: ignore[arg-type]
        log.write(each)
    log.close(60)
    assert [each.user for each in read_exposures(tmp_path)] == [1, 3] and (log.written, log.dropped) == (2, 1)


def test_closing_waits_for_neither_a_full_queue_nor_a_disk_that_hangs(tmp_path: Path) -> None:
    gate, begun = threading.Event(), threading.Event()

    class Slow(ExposureLog):
        def _append(self) -> bool:
            begun.set()
            gate.wait(60)
            return super()._append()

    log = Slow(settings(tmp_path, queue=3))
    log.write(exposure(0))
    assert begun.wait(60)
    for number in range(1, 9):
        log.write(exposure(number))
    assert log.dropped >= 4 and not log.flush(0.05)
    log.close(0.05)
    gate.set()


STORE_ERRORS = [
    StoreUnavailableError("gone"),
    StoreDeniedError("no"),
    CredentialRetrievalError(provider="assume-role", error_msg="the token has expired"),
    NoCredentialsError(),
    EndpointConnectionError(endpoint_url="http://s3"),
    KeyError("ContentLength"),
    OSError(errno.EMFILE, "Too many open files"),
]


@pytest.mark.parametrize("error", STORE_ERRORS, ids=lambda error: type(error).__name__)
def test_a_store_that_fails_does_not_keep_exposures_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(background, "LEAST_S", 0.01)
    failures: list[str] = []
    failed = threading.Event()

    def failing(*_: object) -> None:
        failed.set()
        raise error

    store = LocalStore(tmp_path / "store")
    log = ExposureLog(settings(tmp_path / "log", rotate_bytes=1), store, failures.append)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put_new", failing)
        for number in range(3):
            log.write(exposure(number))
            assert log.flush(60)
        assert failed.wait(60)
        assert sorted(each.user for each in read_exposures(tmp_path / "log")) == [0, 1, 2] and log.dropped == 0
    log.close(60)
    assert sorted(each.user for each in stored_exposures(store)) == [0, 1, 2] and set(failures) == {"exposure-files"}


def test_complete_files_go_to_the_store_and_wait_if_it_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    first = ExposureLog(settings(tmp_path / "log"), store)
    first.write(exposure(1))
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put_new", lambda *_: (_ for _ in ()).throw(StoreUnavailableError("gone")))
        first.close(60)
    assert len(list((tmp_path / "log").iterdir())) == 1
    second = ExposureLog(settings(tmp_path / "log"), store)
    second.write(exposure(2))
    second.close(60)
    assert not list((tmp_path / "log").iterdir())
    assert [each.user for each in stored_exposures(store)] == [1, 2]
    with pytest.raises(SourceError, match="holds no exposures"):
        list(stored_exposures(LocalStore(tmp_path / "empty")))


def test_the_message_names_a_line_that_is_not_an_exposure(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        json.dumps({"time": 1, "user": 2, "request": "r", "version": "v", "items": [1]}) + "\n" + '{"time": "late"}\n'
    )
    with pytest.raises(SourceError, match=r"x\.jsonl, line 2 is not a valid exposure"):
        list(read_exposures(path))
    with pytest.raises(SourceError, match="holds no exposures"):
        list(read_exposures(tmp_path / "none"))
    assert os.path.exists(path)
