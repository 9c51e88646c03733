"""The demo's server gets all its settings, and its command line holds no secret."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from configs.serving import DemoSettings
from serving.demo import launch, when
from serving.demo.context import SETTINGS

FULL = {
    "store": {"url": "s3://bucket/prefix", "secret_access_key": "s3cret"},
    "api_url": "http://127.0.0.1:8000",
    "api_key": "k3y",
    "rules": "rules.yaml",
    "port": 9000,
}


def test_settings_reach_the_server_unchanged_and_with_their_secrets() -> None:
    settings = DemoSettings.model_validate(FULL)
    found = DemoSettings.model_validate_json(launch.environment(settings)[SETTINGS])
    assert found == settings
    assert found.api_key is not None and found.api_key.get_secret_value() == "k3y"


def test_the_command_line_names_the_port_and_no_secret() -> None:
    line = " ".join(launch.command(DemoSettings.model_validate(FULL)))
    assert "--server.port 9000" in line and "s3cret" not in line and "k3y" not in line


def test_no_folder_has_the_name_pages_which_streamlit_looks_for() -> None:
    """Streamlit would run the modules of such a folder as scripts that draw nothing, until somebody opens the first page."""
    assert not (launch.SERVER.parent / "pages").exists()


def test_the_process_becomes_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *call: called.append(call))
    launch.run(DemoSettings())
    ((program, line, environment),) = called
    assert line[0] == program and SETTINGS in environment and environment["PATH"] == os.environ["PATH"]


def test_times_are_shortened_for_people() -> None:
    assert when(0) == "1970-01-01 00:00"


def test_the_heading_is_drawn_before_anything_that_takes_seconds_to_import() -> None:
    """A visitor saw an empty page until everything was imported."""
    program = (
        "import sys; from serving.demo.app import PAGES; "
        "print(sorted({'torch', 'altair', 'scipy', 'models', 'serving.demo.context'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip() == "[]"
