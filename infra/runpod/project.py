"""What the worker of `prefect-runpod` needs to know of this project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefect_runpod.project import Project, adopt

if TYPE_CHECKING:
    from infra.runpod.settings import RunPodSettings

__all__ = ["LAUNCHER", "introduce"]

LAUNCHER = ("python", "-m", "infra.runpod.launcher")


def introduce() -> None:
    """Let the worker of this process rent pods for this project."""
    adopt(
        Project(
            name="recsys",
            launcher=LAUNCHER,
            settings=_settings,
            settings_prefix="RECSYS_RUNPOD_",
            commit=_commit,
            image_advice=(
                "Build infra/docker/train.Dockerfile, push it to your registry, and set its digest (<registry>/<name>@sha256:...) as "
                "pools.gpu_image of `recsys setup`, or as the job variable image."
            ),
            server_advice=(
                "Set RECSYS_RUNPOD_SERVER_URL for the worker (RECSYS_PUBLIC_API_URL for infra/compose.yaml) to the server's public "
                "https:// address"
            ),
        )
    )


def _settings(environment: Mapping[str, str]) -> RunPodSettings:
    from infra.runpod.settings import RunPodSettings

    return RunPodSettings.from_environment(environment)


def _commit() -> str | None:
    from infra.registry import git_commit

    return git_commit()
