"""Run by each Dockerfile when the packages of an image are installed: compile them, and remove what no command needs.

The bytecode is checked by no time stamp, so that two builds of the same packages have the same files.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import sys
from pathlib import Path

TESTED = ("dask", "matplotlib", "networkx", "numba", "pandas", "pyarrow", "scipy", "sklearn", "statsmodels", "sympy")
"""Packages that work without their own tests. In others, such as evidently, a folder `tests` may be part of the package."""
HEADERS = ("torch/include", "pyarrow/include", "pyarrow/src")
INSTALLERS = ("pip", "wheel")


def strip(environment: Path, code: Path) -> None:
    """Remove tests, installers and headers from `environment`, and compile it and `code`."""
    packages = next(environment.glob("lib/python3*/site-packages"))
    for package in sorted(packages.iterdir()):
        if package.name.split("-")[0] in INSTALLERS:
            _remove(package)
    for name in TESTED:
        for path in sorted((packages / name).rglob("tests"), reverse=True):
            _remove(path)
    for path in sorted(packages.rglob("__pycache__")):
        _remove(path)
    for headers in HEADERS:
        _remove(packages / headers)
    for program in sorted((environment / "bin").glob("pip*")):
        program.unlink()
    for folder in (environment, code):
        compileall.compile_dir(folder, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH, workers=0)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    strip(Path(sys.argv[1]), Path(sys.argv[2]))
