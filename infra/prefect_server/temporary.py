"""The temporary Prefect server of a command that is given none. It ends with its command, however that one ends.

Prefect would start one, too. But it outlives a command that is killed, and a server that cannot start is waited for in vain.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import httpx
from prefect.logging import get_logger
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from configs.child_processes import NETWORK, child_environment
from configs.errors import SettingsError
from infra.lifeline import end_at_eof

__all__ = ["TemporaryServer", "start_temporary_server"]

HOST = "127.0.0.1"
ANSWER_S = 1.0
STOP_S = 5.0
LIKE_PREFECT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


def start_temporary_server(meanwhile: Callable[[], None]) -> None:
    """Start the temporary server of this process, unless it runs. Prefect's clients find it as they would find their own.

    Args:
        meanwhile: Called while the server starts.

    Raises:
        SettingsError: The server does not start.
    """
    current = SubprocessASGIServer._instances.get(None)
    if current is None or not current.running:
        server = TemporaryServer(None)
        server.meanwhile = meanwhile
        server.start()
        SubprocessASGIServer._instances[None] = server


class TemporaryServer(SubprocessASGIServer):
    """A Prefect server in a process of its own, which also ends if this process is killed."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)
    """What this process does while the server starts."""

    def __new__(cls, port: int | None = None) -> TemporaryServer:  # Prefect keeps one instance for each port
        return object.__new__(cls)

    def start(self, timeout: int | None = None) -> None:
        """Start the server, and wait until it answers.

        Raises:
            SettingsError: The server ended, or did not answer within `timeout` seconds.
        """
        if self.running:
            return
        # This process takes the port, so no other process can take it before the server does.
        with socket.socket() as listening:
            listening.bind((HOST, 0))
            listening.listen()
            self.port = listening.getsockname()[1]
            process = self.server_process = subprocess.Popen(
                [sys.executable, "-m", "infra.prefect_server.temporary", str(listening.fileno())],
                stdin=subprocess.PIPE,  # closes with this process
                stderr=subprocess.PIPE,
                pass_fds=[listening.fileno()],
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the command, which still has to report its end to the server
            )
        assert process.stderr is not None
        said: deque[str] = deque(maxlen=20)
        reader = threading.Thread(target=self._pass_on, args=(process.stderr, said), daemon=True)
        reader.start()
        get_logger("server").info("Starting a temporary server at %s", self.address)
        atexit.register(self.stop)
        self.meanwhile()
        try:
            self._wait_for(process, timeout or get_current_settings().server.ephemeral.startup_timeout_seconds)
        except _NotUpError as error:
            self.stop()
            reader.join(STOP_S)
            last = next((line for line in reversed(said) if line), "")
            home = get_current_settings().home
            raise SettingsError(
                f"The temporary Prefect server of this command {error}{f' ({last})' if last else ''}. Check that {home} "
                "(PREFECT_HOME) can be written and has a sound database, or start a server and set PREFECT_API_URL."
            ) from None
        self.running = True

    def stop(self) -> None:
        """Stop the server, if it runs."""
        process, self.server_process, self.running = self.server_process, None, False
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def _wait_for(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        end = time.monotonic() + seconds
        with httpx.Client(timeout=ANSWER_S) as client:  # one for all attempts: each new one reads all certificates of the machine
            while time.monotonic() < end:
                status = process.poll()
                if status is not None:
                    raise _NotUpError(f"ended with status {status} instead of starting")
                with suppress(httpx.TransportError):
                    if client.get(f"{self.api_url}/health").status_code == 200:
                        return
                time.sleep(0.1)
        raise _NotUpError(f"was not up within {seconds:g} s")

    def _pass_on(self, stderr: IO[bytes], said: deque[str]) -> None:
        """Print what the running server says. What it says before it runs is told only if it does not start."""
        for line in stderr:
            text = line.decode(errors="replace").rstrip()
            said.append(text)
            if self.running:
                print(text, file=sys.stderr)


class _NotUpError(Exception):
    """The server does not start."""


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    return child_environment((*NETWORK, "PREFECT_*"), paths=paths) | LIKE_PREFECT | settings


def _main() -> None:
    end_at_eof(sys.stdin.fileno())
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    )
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
    sys.exit(0 if server.started else 1)


if __name__ == "__main__":
    _main()
