from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkPool

import infra.runpod  # noqa: F401 - the worker reads this project's settings
from prefect_runpod import RunPodWorker
from runpod_double.prefect_client import PRICES, with_client
from runpod_double.runpod_api import ACCOUNT_KEY, RunPodDouble


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunPodDouble]:
    """Run the double, and name it in the environment as for a worker."""
    with RunPodDouble(tmp_path / "runpod", {"PATH": os.defpath}, prices=PRICES, grace_s=0.5) as found:
        monkeypatch.setenv("RUNPOD_API_BASE_URL", found.url)
        monkeypatch.setenv("RUNPOD_API_KEY", ACCOUNT_KEY)
        monkeypatch.setenv("RECSYS_RUNPOD_LOOK_EVERY_S", "0.1")
        yield found
        assert not found.violations


@pytest.fixture
def pool() -> WorkPool:
    """Create a work pool with the form that the worker gives it."""
    form = RunPodWorker.get_default_base_job_template()
    name = f"gpu-{uuid4().hex[:8]}"
    made = WorkPoolCreate(name=name, type="runpod", base_job_template=form)
    return with_client(lambda client: client.create_work_pool(made))
