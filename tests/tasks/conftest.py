from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.forked_check import forked_checks
from tests.tasks.world import World, copy_world, make_world


@pytest.fixture(autouse=True)
def cheap_load_checks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Only the tests of the load check itself start its processes."""
    if request.path.name == "test_load_check.py":
        yield
        return
    with forked_checks():
        yield


@pytest.fixture(scope="session")
def made_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Made once; tests get copies."""
    return make_world(tmp_path_factory.mktemp("world") / "made")


@pytest.fixture
def world(made_world: World, tmp_path: Path) -> World:
    """A world of the test's own."""
    return copy_world(made_world, tmp_path / "world")
