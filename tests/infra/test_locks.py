from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from configs.errors import RunInProgressError, SettingsError
from infra.locks import run_lock, turn

HOLD = "import sys; from pathlib import Path; from infra.locks import run_lock\nwith run_lock(Path(sys.argv[1]), 'm'): print('held', flush=True); sys.stdin.read()"


def test_a_run_waits_for_another_to_end_but_not_longer_than_it_may(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunInProgressError, match=f"process {holder.pid}"), run_lock(tmp_path, "m", wait_s=0.6):
            raise AssertionError
        release = threading.Timer(0.3, holder.stdin.close)
        release.start()
        with run_lock(tmp_path, "m", wait_s=60):
            assert (tmp_path / "m.lock").read_text().strip() != str(holder.pid)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_only_one_thread_at_a_time_has_the_turn(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "deep" / "x.lock", [], []

    def take() -> None:
        for _ in range(50):
            with turn(path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200 and max(most) == 1


def test_a_killed_holder_releases_its_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None and holder.stdout is not None
    with holder.stdin, holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
    with run_lock(tmp_path, "m"), turn(tmp_path / "other.lock"):
        assert (tmp_path / "m.lock").read_text().strip() != str(holder.pid)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSYS])
def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    if code == errno.ENOSYS:  # a network folder without locks; a lock that outlives a killed process would be no substitute
        monkeypatch.setattr(fcntl, "flock", refuse)
    else:
        monkeypatch.setattr(os, "open", refuse)
    for lock in (run_lock(tmp_path / "w", "m"), turn(tmp_path / "w" / "x.lock")):
        with pytest.raises(SettingsError, match=rf"w/[mx]\.lock cannot be used \({os.strerror(code)}\).*point work_dir"), lock:
            raise AssertionError
