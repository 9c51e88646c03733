"""The packages of an image are compiled once, by strip_environment.py, whose bytecode has no time stamps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.images.builder import ROOT

DOCKERFILES = sorted(
    path.name for path in (ROOT / "infra" / "docker").glob("*.Dockerfile") if "strip_environment" in path.read_text()
)


def wheel(folder: Path) -> Path:
    """Write a wheel with one module."""
    path = folder / "one-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.py", "ONE = 1\n")
        archive.writestr("one-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: one\nVersion: 1\n")
        archive.writestr(
            "one-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("one-1.dist-info/RECORD", "one.py,,\n")
    return path


@pytest.mark.full
@pytest.mark.parametrize("name", DOCKERFILES)
def test_pip_does_not_compile_with_the_variables_of_the_dockerfile(name: str, tmp_path: Path) -> None:
    variables = dict(re.findall(r"\b(PIP_\w+)=(\S+)", (ROOT / "infra" / "docker" / name).read_text()))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "--target",
        str(tmp_path / "to"),
        str(wheel(tmp_path)),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")} | variables
    subprocess.run(command, env=environment, capture_output=True, check=True)
    assert (tmp_path / "to" / "one.py").is_file()
    assert not list(tmp_path.rglob("*.pyc"))
