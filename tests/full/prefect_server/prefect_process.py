"""A real Prefect server in its own process, and commands that, as in an installation, are not told where the code is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.doubles import live_prefect
from tests.doubles.live_prefect import PREFECT, ROOT, ask, process, read, request, wait_until

__all__ = ["PREFECT", "ROOT", "ask", "prefect_server", "process", "read", "request", "run", "wait_until"]


@contextmanager
def prefect_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server whose database is in `folder`, and yield the environment that names it."""
    with live_prefect.prefect_server(folder) as environment:
        yield {name: value for name, value in environment.items() if name != "PYTHONPATH"}


def run(arguments: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=environment, cwd=folder, capture_output=True, text=True, timeout=1800, check=False)
