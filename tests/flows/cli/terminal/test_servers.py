"""What a person sees before a server answers: a missing package, and the address once it is true."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from configs.errors import SettingsError
from configs.extras import install_command, require
from infra.ports import tell_when_it_answers
from tests.flows.cli.test_main import recsys


def test_the_demo_without_streamlit_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("configs.extras.find_spec", lambda name: None if name == "streamlit" else object())
    assert recsys("demo") == 1
    said = capsys.readouterr().err.strip()
    assert said == f"error: The demo needs streamlit, which is not installed. Install it with `{install_command('demo')}`."
    assert f"{sys.executable} -m pip install 'streamlit>=" in said


def test_a_package_that_is_there_is_not_asked_for() -> None:
    require("serving", "The server", "json", "http")
    with pytest.raises(SettingsError, match=r"needs no_such_a and no_such_b, which are not installed\. Install them with"):
        require("serving", "The server", "json", "no_such_a", "no_such_b")


def test_an_address_is_told_when_it_answers_with_200_and_not_before() -> None:
    statuses, told = [503, 503, 200], threading.Event()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/healthz" and not told.is_set()
            self.send_response(statuses.pop(0))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        tell_when_it_answers("0.0.0.0", server.server_port, "/healthz", told.set)
        for _ in range(3):
            server.handle_request()
        assert told.wait(30) and statuses == []
