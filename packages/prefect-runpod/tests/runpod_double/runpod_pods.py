"""Pods as processes of this machine, for the double of RunPod's API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["DoublePod", "processes_of"]


@dataclass
class LogLine:
    id: str
    ts: str
    source: str
    line: str


def processes_of(pod: str) -> list[int]:
    """Return the processes with the pod's id in their environment: its whole tree, whatever sessions it has made."""
    wanted, found = f"RUNPOD_POD_ID={pod}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


@dataclass
class DoublePod:
    """One pod. RunPod starts a container again whenever it exits, shows no exit code, and keeps its status RUNNING."""

    id: str
    body: dict[str, Any]
    command: list[str]
    environment: dict[str, str]
    folder: Path
    price: float
    data_center: str
    start_s: float
    restart_s: float
    grace_s: float
    runtime_after_s: float
    now: Callable[[], float]
    created: float = 0.0
    ended: float | None = None
    status: str = "PROVISIONING"
    container_since: float | None = None
    starts: int = 0
    lines: list[LogLine] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _wanted: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self) -> None:
        self.created = self.now()
        self._wanted.set()
        threading.Thread(target=self._live, daemon=True).start()

    def _live(self) -> None:
        made = time.monotonic()
        while time.monotonic() - made < self.start_s:  # a test may shorten it
            if self._over.wait(min(self.start_s, 0.05)):
                return
        while not self._over.is_set():
            if not self._wanted.wait(0.1):
                continue
            with self._lock:
                if self._over.is_set():
                    return
                self.folder.mkdir(parents=True, exist_ok=True)
                self.log("system", "start container")
                self._process = subprocess.Popen(
                    self.command,
                    env=self.environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self.status, self.starts, self.container_since = "RUNNING", self.starts + 1, self.now()
            process = self._process
            reader = threading.Thread(target=self._read, args=(process,), daemon=True)
            reader.start()
            process.wait()
            self.kill_container()  # a container ends with its first process
            reader.join()
            self._over.wait(self.restart_s)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.log("container", line.decode(errors="replace").rstrip("\n"))

    def log(self, source: str, line: str) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.lines.append(LogLine(f"{stamp}/{len(self.lines):012d}", stamp, source, line))

    def kill_container(self) -> None:
        """Kill all processes at once, as if memory had run out. RunPod then starts the container again."""
        while left := processes_of(self.id):  # a process may just have started another
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)

    def stop(self) -> None:
        """Do what the action `stop` does."""
        self._wanted.clear()
        self._end_processes()
        self.status, self.container_since = "EXITED", None

    def start(self) -> None:
        self._wanted.set()
        self.status = "STARTING"

    def end(self, *, kill: bool = False) -> None:
        """End as by a deletion or, with `kill`, as by the loss of the host."""
        with self._lock:
            self._over.set()
            self.ended = self.ended or self.now()
            self.status, self.container_since = "TERMINATED", None
        self._end_processes(kill=kill)

    def _end_processes(self, *, kill: bool = False) -> None:
        if not kill and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            end = time.monotonic() + self.grace_s
            while processes_of(self.id) and time.monotonic() < end:
                time.sleep(0.05)
        self.kill_container()

    @property
    def usd(self) -> float:
        """What RunPod would bill for the time until its end, or until now."""
        return self.price * ((self.ended or self.now()) - self.created) / 3600

    def to_json(self) -> dict[str, Any]:
        """The object `Pod` of the published description."""
        running = self.status == "RUNNING"
        runtime = None
        if running and self.container_since is not None and self.now() - self.created >= self.runtime_after_s:
            runtime = {
                "uptime": int(self.now() - self.container_since),
                "gpus": [{"util": 50, "memoryUtil": 10} for _ in range(self.body["gpu"].get("count", 1))],
                "cpu": {"util": 10},
                "memory": {"util": 20},
                "ports": [],
            }
        actions = {"RUNNING": ["stop", "restart", "terminate"], "EXITED": ["start", "terminate"]}
        return {
            "id": self.id,
            "name": self.body["name"],
            "status": self.status,
            "actions": actions.get(self.status, ["terminate"]),
            "image": self.body["image"],
            "args": self.body.get("args", ""),
            "disk": self.body.get("disk", 20),
            "mounts": self.body.get("mounts", {}),
            "ports": self.body.get("ports", []),
            "env": self.body.get("env", {}),
            "registry": self.body.get("registry"),
            "gpu": {"id": self.body["gpu"]["id"], "count": self.body["gpu"].get("count", 1)},
            "cloud": self.body.get("cloud", "SECURE"),
            "dataCenterId": self.data_center,
            "cudaVersion": "12.8",
            "ssh": {"proxy": None, "direct": None},
            "template": None,
            "cost": 0.0 if self.status in ("EXITED", "TERMINATED") else self.price,
            "locked": False,
            "runtime": runtime,
            "createdAt": datetime.fromtimestamp(self.created, UTC).isoformat().replace("+00:00", "Z"),
            "startedAt": None
            if self.container_since is None
            else datetime.fromtimestamp(self.container_since, UTC).isoformat().replace("+00:00", "Z"),
            "globalNetworking": {"enabled": False},
        }


def command_of(body: dict[str, Any]) -> list[str]:
    """Return what a container of the body runs. The image of the double has neither entrypoint nor command."""
    args = body.get("args", "")
    if args.startswith("{"):
        given = json.loads(args)
        return [*given.get("entrypoint", []), *given.get("cmd", [])]
    return [*body.get("entrypoint", []), *body.get("cmd", []), *args.split()]
