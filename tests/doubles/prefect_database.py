"""Prefect's SQLite database as its migrations leave it, made once for all tests of a machine. They take seconds for each server."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import prefect
from filelock import FileLock

__all__ = ["migrated_database"]


def migrated_database(path: Path) -> Path:
    """Write a new database to `path`, without any run, and return the path."""
    kept = Path(tempfile.gettempdir()) / f"recsys-tests-{getpass.getuser()}-prefect-{prefect.__version__}.db"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            with tempfile.TemporaryDirectory() as home:
                environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "COVERAGE"))}
                subprocess.run(
                    [str(Path(sys.executable).with_name("prefect")), "server", "database", "upgrade", "-y"],
                    env=environment | {"PREFECT_HOME": home},
                    capture_output=True,
                    check=True,
                )
                shutil.move(Path(home) / "prefect.db", f"{kept}.partial")
            Path(f"{kept}.partial").replace(kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(kept, path))
