"""A worker ends with its supervisor, so that no worker without one keeps the port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        open("up", "w").close()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        open("ended", "w").close()
        await send({"type": "lifespan.shutdown.complete"})
"""
SUPERVISOR = """
import time
import uvicorn
from serving.supervisor import WorkerProcess

if __name__ == "__main__":
    config = uvicorn.Config("app:app", port=0, log_level="error")
    worker = WorkerProcess(config, [config.bind_socket()])
    worker.start()
    time.sleep(600)
"""


def test_a_worker_shuts_down_properly_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "supervisor.py").write_text(SUPERVISOR)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with subprocess.Popen([sys.executable, "supervisor.py"], cwd=tmp_path, env=environment) as parent:
        for name in ("up", "ended"):
            end = time.monotonic() + 120
            while not (tmp_path / name).exists():
                assert time.monotonic() < end and (parent.poll() is None) is (name == "up"), f"the worker is not {name}"
                time.sleep(0.05)
            if name == "up":
                parent.send_signal(signal.SIGKILL)
                parent.wait()
