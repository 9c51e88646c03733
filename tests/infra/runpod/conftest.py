from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.runpod.runpod_api import RunPodDouble

ROOT = Path(__file__).parents[3]
PRICES = {"NVIDIA L4": 0.44, "NVIDIA A40": 0.8, "NVIDIA H100 PCIe": 3.0}


@pytest.fixture
def double(tmp_path: Path) -> Iterator[RunPodDouble]:
    """Run the double. Its pods get this interpreter and this code as their image."""
    image = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "PYTHONPATH": str(ROOT)}
    with RunPodDouble(tmp_path / "runpod", image, prices=PRICES, grace_s=2.0) as found:
        yield found
        assert not found.violations
