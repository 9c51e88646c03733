"""An export on a local Dask cluster of two processes gives the same files as in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from configs.errors import SettingsError
from configs.settings import EtlSettings
from infra.storage.local import LocalStore
from tests.ports import reserved_port
from tests.tasks.exported import Made

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit="2GiB") as cluster:
        yield str(cluster.scheduler_address)


def files_of(made: Made, folder: Path, **engine: Any) -> dict[str, bytes]:
    made.destination = LocalStore(folder)
    made.engine = EtlSettings(work_dir=made.root / "work", **engine)
    made.export(parts=["top_k", "user_vectors", "item_vectors"])
    return {key: made.destination.get(key) for key in made.destination.list()}


def test_the_files_of_a_cluster_equal_those_of_one_process(address: str, tmp_path: Path) -> None:
    made = Made(tmp_path)
    here = files_of(made, tmp_path / "here")
    there = files_of(made, tmp_path / "there", engine="dask", scheduler_address=address)
    assert there == here and len(here) == 4 + 4 + 1 + 2
    assert not list((tmp_path / "work").rglob("*.npz")), "nothing is left behind"


def test_without_a_scheduler_the_export_says_so_and_can_go_on(tmp_path: Path) -> None:
    made = Made(tmp_path)
    nobody = f"tcp://127.0.0.1:{reserved_port()}"
    with pytest.raises(SettingsError, match="no Dask scheduler answers there"):
        files_of(made, tmp_path / "out", engine="dask", scheduler_address=nobody)
    assert not any(key.endswith("manifest.json") for key in made.destination.list())
