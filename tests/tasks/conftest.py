from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.forked_check import forked_checks
from tests.tasks.world import World, copy_world, make_world


@pytest.fixture(autouse=True)
def cheap_load_checks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fork the load check's processes, except in the tests of the load check itself."""
    if request.path.name == "test_load_check.py":
        yield
        return
    with forked_checks():
        yield


@pytest.fixture(scope="session")
def made_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world that is made once; each test gets a copy."""
    return make_world(tmp_path_factory.mktemp("world") / "made")


@pytest.fixture
def world(made_world: World, tmp_path: Path) -> World:
    """A copy of the world for one test."""
    return copy_world(made_world, tmp_path / "world")
