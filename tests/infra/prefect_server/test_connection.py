"""If the Prefect server cannot be used, one paragraph says so before any work."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from configs.errors import SettingsError
from infra.prefect_server import connection, make_ready, server_version


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """Run a server that gives each request this answer, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def refusal(address: str) -> str:
    """Return what is said about the server: one paragraph without the planted password."""
    with temporary_settings({PREFECT_API_URL: address}), pytest.raises(SettingsError) as refused:
        make_ready()
    said = str(refused.value)
    assert "\n" not in said and "planted" not in said and said.endswith(".")
    return said


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, "{}", "refuses the credentials (status 401). Set PREFECT_API_AUTH_STRING or PREFECT_API_KEY."),
        (403, "{}", "refuses the credentials (status 403)"),
        (404, "{}", "is not the API of a Prefect server: it answers with status 404. Correct PREFECT_API_URL"),
        (200, "<html>Prefect</html>", "it answers with something other than JSON. Correct PREFECT_API_URL"),
        (200, '{"version": "3.8.8"}', "it answers with something other than its version"),
        (200, '"2.20.25"', "has version 2.20.25, but this installation needs 3."),
        (500, "broken", "does not answer (status 500). Start it, correct PREFECT_API_URL, or unset PREFECT_API_URL"),
    ],
)
def test_the_message_says_why_an_answer_is_not_that_of_a_usable_server(status: int, body: str, said: str) -> None:
    with answering(status, body) as address:
        assert said in refusal(address.replace("http://", "http://user:planted@"))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:9/api", "does not answer (ConnectError)"),
        ("http://no-such-host.invalid:4200/api", "does not answer (ConnectError)"),
        ("127.0.0.1:4200/api", "is not an address"),
    ],
)
def test_the_message_says_that_nothing_answers_at_an_address(address: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REACH_S", 120)  # without a network, it takes a while to learn that a name does not exist
    assert said in refusal(address)


@pytest.mark.full
def test_an_address_that_prefect_itself_refuses_is_reported() -> None:
    program = "from infra.prefect_server import make_ready; make_ready()"
    environment = os.environ | {"PREFECT_API_URL": "http://[127.0.0.1/api", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert (
        last.startswith("configs.errors.SettingsError: The settings of Prefect cannot be used (")
        and "Correct PREFECT_API_URL" in last
    )


def test_a_server_that_hangs_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REACH_S", 0.1)
    monkeypatch.setattr(connection, "ANSWER_S", 0.5)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # accepts connections and never answers
        assert "does not answer (" in refusal(f"http://127.0.0.1:{listening.getsockname()[1]}/api")


def test_a_name_whose_resolution_hangs_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection.REACH_S < 10
    monkeypatch.setattr(connection, "REACH_S", 0.2)
    released = threading.Event()

    def resolve(*arguments: object, **options: object) -> list[object]:
        released.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        assert "does not answer (no answer in time)" in refusal("http://slow.invalid/api")
    finally:
        released.set()


def test_a_server_of_the_same_major_version_is_accepted_and_gets_its_credentials() -> None:
    with answering(200, json.dumps("3.1.0")) as address:
        settings = {PREFECT_API_URL: address, PREFECT_API_AUTH_STRING: "admin:planted"}
        with temporary_settings(settings):
            make_ready()
            assert server_version() == "3.1.0"


def test_if_there_is_neither_a_server_nor_a_temporary_one_the_settings_are_named() -> None:
    with (
        temporary_settings({PREFECT_API_URL: None, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}),
        pytest.raises(SettingsError, match="PREFECT_SERVER_EPHEMERAL_ENABLED forbids"),
    ):
        make_ready()


def test_a_temporary_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SubprocessASGIServer._instances, None, raising=False)
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'Traceback ...' >&2\necho 'file is not a database' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with temporary_settings({PREFECT_API_URL: None, PREFECT_HOME: tmp_path}), pytest.raises(SettingsError) as refused:
        make_ready()
    said = str(refused.value)
    assert "ended with status 3 instead of starting (file is not a database)" in said and f"{tmp_path} (PREFECT_HOME)" in said
    assert SubprocessASGIServer._instances.get(None) is None, "Prefect would take it for a running one"


def test_imports_take_place_while_a_temporary_server_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of this test ends as soon as there is the file that the imports would write: they did not wait for it."""
    monkeypatch.delitem(SubprocessASGIServer._instances, None, raising=False)
    slow, begun = tmp_path / "python", tmp_path / "begun"
    slow.write_text(f"#!/bin/sh\nwhile [ ! -e {begun} ]; do sleep 0.05; done\nexit 3\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    limits = {PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 60}
    with (
        temporary_settings({PREFECT_API_URL: None, PREFECT_HOME: tmp_path, **limits}),
        pytest.raises(SettingsError, match="status 3"),
    ):
        make_ready(begun.touch)
