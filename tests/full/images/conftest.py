"""Images that `make images` has built, unpacked once for all tests of a process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.images.builder import ROOT, Builder
from infra.images.contents import other_code
from infra.images.running import Unpacked, unpacked, why_not


@pytest.fixture(scope="session")
def image() -> Iterator[Callable[[str], Unpacked]]:
    """Return a function that returns an image by its name. The test is skipped unless the image was built here from the same code."""
    if reason := why_not():
        pytest.skip(reason)
    found: dict[str, Unpacked] = {}
    with ExitStack() as stack:

        def get(name: str) -> Unpacked:
            full = f"localhost/{name}:latest"
            if not Builder("buildah", {}).has(full):
                pytest.skip(f"{name} is not built: make images")
            if name not in found:
                found[name] = stack.enter_context(unpacked(full))
            if other := other_code(found[name].root / "app", ROOT):
                pytest.skip(f"{name} was built from other code ({other[0]} differs): make images")
            return found[name]

        yield get


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that the images' user can enter, which pytest's own folders do not allow."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-image-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
