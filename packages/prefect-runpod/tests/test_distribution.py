"""What an installation of the distribution alone has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

pytestmark = pytest.mark.full  # it builds a wheel
PACKAGE = Path(__file__).parents[1]
SCRIPT = """
import sys
import prefect_runpod, prefect_runpod.launcher
assert "prefect" not in sys.modules, "a pod would wait for Prefect before it decides whether it is its turn"
assert prefect_runpod.__file__.startswith(sys.argv[1]), prefect_runpod.__file__
for name in prefect_runpod.__all__:
    getattr(prefect_runpod, name)
assert not {"configs", "flows", "infra", "models", "serving", "tasks"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the distribution from a copy of its folder, with the build tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(folder / "source")], check=True, timeout=600)
    (found,) = folder.glob("prefect_runpod-*.whl")
    return found


def test_the_wheel_declares_its_worker_to_prefect_and_has_its_licence_and_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        declared = ConfigParser()
        declared.read_string(archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode())
    assert dict(declared["prefect.collections"]) == {"prefect_runpod": "prefect_runpod.worker"}
    assert {"prefect_runpod/py.typed", "prefect_runpod/__init__.pyi", "prefect_runpod/api/__init__.pyi"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names) and not [name for name in names if name.startswith("tests")]


def test_the_installed_package_needs_nothing_of_a_project(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    place = str(tmp_path / "installed")
    environment = os.environ | {"PYTHONPATH": place, "PREFECT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", SCRIPT, place]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
