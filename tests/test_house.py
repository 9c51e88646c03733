"""The order of the house: small folders and modules, faces that outsiders import, and layers whose arrows point one way."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("configs", "flows", "infra", "models", "serving", "tasks")
MOST_FILES, MOST_LINES = 15, 400


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


PACKAGES = sorted(
    path.parent.relative_to(ROOT).as_posix().replace("/", ".")
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("__init__.pyi")
)


def test_folders_and_modules_stay_small() -> None:
    found: dict[Path, int] = {}
    for path in modules(*FOLDERS, "benchmarks", "packages", "tests", "website"):
        found[path.parent] = found.get(path.parent, 0) + 1
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{path.relative_to(ROOT)} has {lines} lines: it holds two ideas, so split it"
    crowded = {str(folder.relative_to(ROOT)): count for folder, count in found.items() if count > MOST_FILES}
    assert not crowded, "these folders are too full to find one's way in: make a package of what belongs together"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is_for_and_its_face_can_be_imported(package: str) -> None:
    face = importlib.import_module(package)
    assert face.__doc__ and len(face.__doc__.split()) >= 8
    assert face.__all__ and list(face.__all__) == sorted(set(face.__all__), key=str)
    for name in face.__all__:
        assert getattr(face, name) is not None
        # Importing the module `x` of a package sets the package's attribute `x`, so the face cannot also have a name `x`.
        assert not (ROOT / package.replace(".", "/") / f"{name}.py").exists(), f"{package}.{name} is both a name and a module"


def test_every_package_has_a_face() -> None:
    folders = {path.parent for path in modules(*FOLDERS)} - {ROOT / folder for folder in FOLDERS}
    faceless = {folder.relative_to(ROOT).as_posix().replace("/", ".") for folder in folders} - set(PACKAGES)
    # These are started (`recsys`, `python -m infra.local_stack`) or drawn by the demo's navigation; nothing imports them.
    started = {"infra.backup", "infra.docker", "infra.exporter", "infra.images", "infra.kubernetes", "infra.local_stack"}
    assert faceless == started | {"flows.cli", "serving.demo.views"}


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module
            for alias in node.names:
                if (ROOT / node.module.replace(".", "/") / f"{alias.name}.py").exists():
                    yield node.lineno, f"{node.module}.{alias.name}"


def test_outsiders_import_the_face_of_a_package_and_no_module_in_it() -> None:
    found = []
    for path in modules(*FOLDERS):
        for line, name in _imports(path):
            package = name.rpartition(".")[0]
            inside = path.is_relative_to(ROOT / package.replace(".", "/"))
            if package in PACKAGES and name not in PACKAGES and not inside:
                found.append(f"{path.relative_to(ROOT)}:{line} imports {name}: import the name from {package}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "planted", "said"),
    [
        ("models/users.py", "import tasks.gate", "models is not allowed to import tasks"),
        ("tasks/datasets/versions.py", "import tasks.landing.run", "tasks.datasets is not allowed to import tasks.landing"),
        ("tasks/gate/rules.py", "import prefect", "tasks.gate is not allowed to import prefect"),
        ("models/training/adamw.py", "import models.training.cuda_graph", "No cycles are allowed in models.training"),
    ],
)
def test_the_linter_refuses_an_arrow_against_the_layers(module: str, planted: str, said: str, tmp_path: Path) -> None:
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")]
        )
    shutil.copy(ROOT / ".importlinter", tmp_path)
    path = tmp_path / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{planted}\n", encoding="utf-8")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1 and said in " ".join(done.stdout.split())
