"""Each image has the packages of its lock file and no others, and the programs that its commands start."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from infra.images.running import Unpacked
from infra.local_stack.services import ROOT
from tests.full.images.started import once

pytestmark = pytest.mark.full
OWN = {"movielens-recsys", "prefect-runpod"}
INSTALLED = """
import json
from importlib.metadata import distributions
print(json.dumps([[each.name, each.version] for each in distributions()]))
"""
EXTRAS = (  # one module of each package that an extra of the worker brings
    "uvicorn",
    "hiredis",
    "prometheus_client",
    "psycopg",
    "wandb",
    "prefect_dask",
    "dask.dataframe",
    "distributed",
    "opentelemetry.exporter.otlp.proto.http",
    "openlineage.client",
)
PROGRAMS = ("prefect --version", "pg_dump --version", "pg_restore --version", "redis-cli --version", "gpg --version")


def locked(*names: str) -> dict[str, str]:
    """Return the version of each package in lock files."""
    lines = "\n".join((ROOT / "requirements" / f"{name}.txt").read_text() for name in names)
    return spelled_alike(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", lines))


def spelled_alike(versions: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the version of each package. Its name and version may be spelled in several ways, and a build such as +cpu is left out."""
    return {str(canonicalize_name(name)): Version(version).public for name, version in versions}


@pytest.mark.parametrize(
    ("name", "lock"),
    [
        ("recsys-serve", "serve"),
        ("recsys-serve-torch", "serve-torch"),
        ("recsys-demo", "demo"),
        ("recsys-worker", "worker"),
    ],
)
def test_an_image_has_the_locked_packages_and_no_others(
    name: str, lock: str, image: Callable[[str], Unpacked], place: Path
) -> None:
    found = spelled_alike(json.loads(once(image(name), place, "python", "-c", INSTALLED)))
    assert {package: version for package, version in found.items() if package not in OWN} == locked(lock)


def test_the_worker_has_every_command_of_readme_their_extras_and_the_programs_of_backups(
    image: Callable[[str], Unpacked], place: Path
) -> None:
    worker = image("recsys-worker")
    assert "Usage" in once(worker, place, *worker.says["Cmd"]), "the image's own command"
    named = sorted(set(re.findall(r"`recsys ([a-z]+)", (ROOT / "README.md").read_text())) - {"demo"})
    assert {"retrain", "serve", "setup", "doctor"} <= set(named)
    commands = [f"recsys {name} --help" for name in named] + list(PROGRAMS)
    script = " && ".join(f"{command} > /tmp/said" for command in commands)
    once(worker, place, "sh", "-c", script)
    once(worker, place, "python", "-c", f"import {', '.join(EXTRAS)}")
