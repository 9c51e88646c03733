"""The project that the worker belongs to: how it names things outside of its process, and what its messages advise.

The worker works without one. A project that ships the worker with its own code calls `adopt` when its package is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prefect_runpod.settings import PREFIX, RunPodSettings

__all__ = ["LAUNCHER", "Project", "adopt", "current", "declared_commit"]

LAUNCHER = ("python", "-m", "prefect_runpod.launcher")
COMMIT = "COMMIT"


def declared_commit() -> str | None:
    """Return the commit that PREFECT_RUNPOD_COMMIT names, or None. The build of an image sets it."""
    return os.environ.get(f"{PREFIX}{COMMIT}") or None


@dataclass(frozen=True)
class Project:
    """A project with rented pods. Workers of other projects leave its pods alone, even in the same account."""

    name: str = "prefect"
    """Start of the names of its pods. Its capitals begin the variables that the worker gives a pod, such as PREFECT_POD_RUN."""
    launcher: tuple[str, ...] = LAUNCHER
    """Command that executes a run in a pod. Its image must have this module."""
    settings: Callable[[Mapping[str, str]], RunPodSettings] = RunPodSettings.from_environment
    """Reads the settings from environment variables."""
    settings_prefix: str = PREFIX
    """Start of the names of these variables, for messages."""
    commit: Callable[[], str | None] = declared_commit
    """Returns the commit of the code, or None if it is not known. A worker and its pods must agree."""
    image_advice: str = (
        "Build an image with your flows and prefect-runpod, push it to your registry, and set its digest "
        "(<registry>/<name>@sha256:...) as the job variable image."
    )
    server_advice: str = f"Set {PREFIX}SERVER_URL for the worker to the server's public https:// address"

    @property
    def marks(self) -> str:
        """The start of the names of the variables that the worker gives a pod."""
        return f"{self.name.upper()}_POD_"


_adopted = [Project()]


def adopt(project: Project) -> None:
    """Work for this project from now on. A process works for one project."""
    _adopted[0] = project


def current() -> Project:
    """Return the project that this process works for."""
    return _adopted[0]
