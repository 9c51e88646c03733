from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from prefect_runpod.project import Project, adopt, current
from runpod_double.runpod_api import RunPodDouble

PACKAGE = Path(__file__).parents[1]
PRICES = {"NVIDIA L4": 0.44, "NVIDIA A40": 0.8, "NVIDIA H100 PCIe": 3.0}

# The first example of a test may import much, and the machine may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def no_project() -> Iterator[None]:
    """Let the worker belong to no project, whatever ran before in this process."""
    before = current()
    adopt(Project())
    yield
    adopt(before)


@pytest.fixture
def double(tmp_path: Path) -> Iterator[RunPodDouble]:
    """Run the double. Its pods get this interpreter and this code as their image."""
    image = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "PYTHONPATH": str(PACKAGE)}
    with RunPodDouble(tmp_path / "runpod", image, prices=PRICES, grace_s=2.0) as found:
        yield found
        assert not found.violations
