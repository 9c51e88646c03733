"""What a version's lineage says about the machine that trained it: the code, the packages and the hardware."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.child_processes import child_environment
from configs.cores import available_cores

__all__ = ["git_commit", "machine_facts"]

PATIENCE_S = 120  # for git: on a busy machine, a record must not lack the commit
PACKAGES = ("movielens-recsys", "torch", "numpy", "pandas", "prefect", "recbole", "s5-pytorch", "pandera", "evidently")


def machine_facts(replicas: int = 1, threads: int | None = None) -> dict[str, Any]:
    """Return the fields of a `Lineage` that describe this machine.

    Args:
        replicas: Number of processes that train together.
        threads: Number of threads of each. Another number adds up in another order, and gives slightly different weights.

    Returns:
        `git_commit`, `python`, `packages` and `hardware`.
    """
    return {
        "git_commit": git_commit(),
        "python": sys.version.split()[0],
        "packages": {name: version for name in PACKAGES if (version := _package_version(name))},
        "hardware": {**_hardware(), "replicas": replicas, **({} if threads is None else {"threads": threads})},
    }


def git_commit(written: Sequence[str] = ()) -> str | None:
    """Return the commit of the checkout that this code runs from, with a trailing `+` if files were modified.

    Outside a repository, return RECSYS_COMMIT, which the image build sets, or None.

    Args:
        written: Folders of the repository whose files the program writes itself, so that their changes do not count.
    """
    here, environment = Path(__file__).parent, child_environment(["GIT_*"])
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            env=environment,
            cwd=here,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        changed = subprocess.run(
            [
                "git",
                "status",
                "--porcelain",
                "--untracked-files=no",
                "--",
                ":/",
                *(f":(exclude,top){folder}" for folder in written),
            ],
            env=environment,
            cwd=here,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("RECSYS_COMMIT") or None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _package_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    import torch

    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor(),
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {"cpu": cpu, "cores": available_cores(), "ram_gib": round(pages / 2**30, 1), "gpus": gpus}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
