"""Starts the demo: Streamlit in its own process, with the settings in its environment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from configs.child_processes import STORE, child_environment
from configs.serving import DemoSettings
from infra.pages import BLUE, DARK, DARK_PAGE, GROUND, INK

__all__ = ["command", "environment", "run"]

SERVER = Path(__file__).with_name("server.py")
THEME = {
    "baseRadius": "small",
    "light.primaryColor": BLUE,
    "light.secondaryBackgroundColor": GROUND,
    "light.textColor": INK,
    "dark.primaryColor": DARK["blue"],
    "dark.backgroundColor": DARK_PAGE,
    "dark.secondaryBackgroundColor": DARK["ground"],
    "dark.textColor": DARK["ink"],
}
"""A browser that asks for dark pages gets them."""


def run(settings: DemoSettings) -> None:
    """Replace this process with the Streamlit server, which must be installed."""
    sys.stdout.flush()
    os.execve(sys.executable, command(settings), environment(settings))


def command(settings: DemoSettings) -> list[str]:
    """Return the server's command line. It contains no secrets, because anybody on the machine can read it."""
    options = {
        "server.address": settings.host,
        "server.port": str(settings.port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "runner.magicEnabled": "false",  # it would draw strings that document constants
        **{f"theme.{name}": value for name, value in THEME.items()},
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "streamlit", "run", str(SERVER), *flags]


def environment(settings: DemoSettings) -> dict[str, str]:
    """Return the environment of the server: what it needs, and the variable that `context_of` reads."""
    from serving.demo.context import SETTINGS

    root = str(SERVER.parents[2])  # the server puts only the script's own folder on the path
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return child_environment((*STORE, "STREAMLIT_*"), paths=paths) | {SETTINGS: json.dumps(_plain(settings))}


def _plain(value: Any) -> Any:
    """Return JSON-serializable data with its secrets, which pydantic would mask."""
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value
