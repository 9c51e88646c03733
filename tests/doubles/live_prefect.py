"""A real Prefect server and the processes around it, and a webhook that keeps what it is sent."""

from __future__ import annotations

import getpass
import http.server
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import prefect
from filelock import FileLock
from prefect.events.worker import EventsWorker

from tests.ports import reserved_port

__all__ = [
    "PREFECT",
    "ROOT",
    "Webhook",
    "ask",
    "client",
    "migrated_database",
    "prefect_server",
    "process",
    "read",
    "recsys",
    "request",
    "wait_until",
    "webhook",
]

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))


def wait_until(ready: Callable[[], Any], seconds: float, what: str = "what was waited for") -> Any:
    """Return what `ready` returns as soon as that is true. Raise AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ready()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"{what} did not come in {seconds} s")


@contextmanager
def process(
    command: list[str], environment: Mapping[str, str], log: Path, folder: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process. At the end it gets SIGTERM, and SIGKILL if it does not react."""
    with log.open("ab") as file:
        started = subprocess.Popen(command, env=dict(environment), stdout=file, stderr=file, cwd=folder, start_new_session=True)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


@contextmanager
def prefect_server(folder: Path, **settings: str) -> Iterator[dict[str, str]]:
    """Run a server that keeps everything under `folder`, and yield the environment that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = reserved_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "AWS_"))}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_UI_URL": f"http://127.0.0.1:{port}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "NO_PROXY": "127.0.0.1,localhost",
        **settings,
    }
    if not any(name.startswith("PREFECT_SERVER_DATABASE") for name in settings) and not (folder / "home" / "prefect.db").exists():
        migrated_database(folder / "home" / "prefect.db")
    command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with process(command, environment, folder / "server.log") as started:

        def up() -> bool:
            assert started.poll() is None, (folder / "server.log").read_text()[-3000:]
            return _healthy(environment)

        wait_until(up, 600, "the Prefect server")
        try:
            yield environment
        finally:
            # Send this process's own events now. Later it would wait minutes for a server that is gone.
            EventsWorker.drain_all(timeout=30)


def migrated_database(path: Path) -> Path:
    """Write Prefect's SQLite database as its migrations leave it, and return the path.

    The migrations take seconds, so the database is made once for all tests on a machine.
    """
    kept = Path(tempfile.gettempdir()) / f"recsys-tests-{getpass.getuser()}-prefect-{prefect.__version__}.db"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            with tempfile.TemporaryDirectory() as home:
                environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "COVERAGE"))}
                subprocess.run(
                    [PREFECT, "server", "database", "upgrade", "-y"],
                    env=environment | {"PREFECT_HOME": home},
                    capture_output=True,
                    check=True,
                )
                shutil.move(Path(home) / "prefect.db", f"{kept}.partial")
            Path(f"{kept}.partial").replace(kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(kept, path))


@cache
def client() -> httpx.Client:
    """A client for all requests: a new one would read the machine's certificates, for 45 ms of CPU, in each round of a wait."""
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it trusts no certificate: the servers of tests speak plain HTTP
    return httpx.Client(verify=nobody, timeout=90, limits=httpx.Limits(max_keepalive_connections=0))


def request(method: str, url: str, **options: Any) -> httpx.Response:
    """Return the answer of a server that may be slow, whatever its status.

    With SQLite under load, the server answers 503. Prefect's own client retries that, too.
    """
    end = time.monotonic() + 90
    while True:
        answer = client().request(method, url, **options)
        if answer.status_code != 503 or time.monotonic() > end:
            return answer
        time.sleep(0.5)


def ask(environment: Mapping[str, str], path: str, **body: Any) -> Any:
    """Return what the server's API answers to a POST."""
    return request("POST", f"{environment['PREFECT_API_URL']}/{path}", json=body).raise_for_status().json()


def read(environment: Mapping[str, str], path: str) -> Any:
    """Return what the server's API answers to a GET."""
    return request("GET", f"{environment['PREFECT_API_URL']}/{path}").raise_for_status().json()


def recsys(arguments: list[str], environment: Mapping[str, str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command of `recsys` from this checkout."""
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(
        command,
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def _healthy(environment: Mapping[str, str]) -> bool:
    try:
        return httpx.get(f"{environment['PREFECT_API_URL']}/health", timeout=30).status_code == 200
    except httpx.HTTPError:
        return False


class Webhook(http.server.ThreadingHTTPServer):
    """Answers with `status`, and keeps the JSON that is posted: in `refused` if the status is an error."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (self.server.messages if self.server.status == 200 else self.server.refused).append(json.loads(body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
