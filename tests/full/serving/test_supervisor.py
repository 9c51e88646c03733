"""The supervisor notices a worker that is killed, even while it waits for that worker's answer."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import uvicorn

from serving.supervisor import WorkerProcess

pytestmark = pytest.mark.full


def test_a_worker_that_is_killed_while_its_answer_is_awaited_is_noticed_at_once() -> None:
    config = uvicorn.Config("serving.api.app:from_environment", factory=True, port=0)
    worker = WorkerProcess(config, [])
    worker.start()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)  # it does not answer
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(worker.is_alive(timeout=3600)), daemon=True)
    asking.start()
    asking.join(0.5)
    assert asking.is_alive()
    os.kill(worker.pid, signal.SIGKILL)
    asking.join(60)
    assert found == [False]
    worker.join()
