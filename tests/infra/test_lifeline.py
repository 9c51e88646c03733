from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.lifeline import groups_end_with_this_process

ROOT = Path(__file__).parents[2]
PARENT = """
import multiprocessing, subprocess, sys, time
from infra.lifeline import end_with_parent, groups_end_with_this_process

def work(ready):
    end_with_parent()
    ready.set()
    time.sleep(600)

if __name__ == "__main__":
    program = "import time; from infra.lifeline import end_at_eof; end_at_eof(0); print(flush=True); time.sleep(600)"
    piped = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    piped.stdout.readline()
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    pooled = spawn.Process(target=work, args=(ready,))
    pooled.start()
    ready.wait()
    with groups_end_with_this_process() as watch:
        other = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True)
        watch(other.pid)
        print(piped.pid, pooled.pid, other.pid, int(other.stdout.readline()), flush=True)
        time.sleep(600)
"""


def ended(pid: int) -> bool:
    """Return whether the process is gone, or is a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT])
def test_the_children_of_a_process_end_with_it(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 4 and not any(map(ended, pids))
        parent.send_signal(number)
    end = time.monotonic() + 60
    while not all(map(ended, pids)):
        assert time.monotonic() < end, "a child has outlived its parent"
        time.sleep(0.05)


def test_after_a_normal_end_of_the_block_the_children_are_left_alone() -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as other:
        with groups_end_with_this_process() as watch:
            watch(other.pid)
        assert other.poll() is None
        other.kill()
