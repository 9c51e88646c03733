"""The etl gives the same on a local Dask cluster of two processes as in one process."""

from __future__ import annotations

import gzip
import io
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import LocalCluster

from benchmarks.serving.world import wait_for
from configs.errors import DataRefusedError, SettingsError, SourceError
from configs.settings import DataSettings, EtlSettings, LandingSettings, ValidationSettings
from infra.landing_zone import FolderZone
from infra.storage.local import LocalStore
from tasks.datasets import read_manifest, read_table, write_dataset
from tasks.ingest import building, locate
from tasks.ingest.engine_dask import DaskEngine
from tasks.landing import LandingOptions, land
from tests import own_events, synthetic
from tests.ports import reserved_port

pytestmark = pytest.mark.full
NOW = 2_000_000_000
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
LAX = ValidationSettings(max_quarantined_share=1.0, min_rows=1)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit="1GiB") as cluster:
        yield str(cluster.scheduler_address)


def faulty() -> pd.DataFrame:
    """Return events with unordered users, bad cells, superseded events, and two ratings in one second."""
    frame = synthetic.interactions(120, 60, 25)
    again = frame.sample(200, random_state=1).assign(timestamp=lambda rows: rows["timestamp"] + 50, rating=1)
    tied = frame.sample(100, random_state=2).assign(rating=2)
    frame = pd.concat([frame, again, tied], ignore_index=True)
    frame.loc[frame.index % 97 == 5, "timestamp"] = -4
    frame.loc[frame.index % 101 == 7, "rating"] = 9
    return frame


def packed(path: Path) -> Path:
    other = path.with_name("packed.csv.gz")
    other.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return other


def parquet(path: Path) -> Path:
    """Write Parquet with an empty row group at the beginning, between the others, and at the end."""
    table = pa.Table.from_pandas(pd.read_csv(io.BytesIO(path.read_bytes())), preserve_index=False)
    with pq.ParquetWriter(path.with_name("events.parquet"), table.schema) as writer:
        for start in (0, 700, 1400):
            writer.write_table(table.slice(0, 0))
            writer.write_table(table.slice(start, 700 if start < 1400 else None))
        writer.write_table(table.slice(0, 0))
    return path.with_name("events.parquet")


def folder(path: Path) -> Path:
    """Write three files, two of which have events of the same user, item and second."""
    frame = pd.read_csv(path)
    again = frame.head(100).assign(rating=lambda rows: rows["rating"] + 0.5)
    for number, part in enumerate((frame.iloc[:900], pd.concat([again, frame.iloc[900:1000]]), frame.iloc[1000:])):
        part.to_csv(path.with_name(f"events-{number}.csv"), index=False)
    path.unlink()
    return path.parent


@pytest.mark.parametrize("write", [None, packed, parquet, folder])
@pytest.mark.parametrize("memory_rows", [400, pytest.param(1_000_000, marks=pytest.mark.nightly)])
def test_a_cluster_makes_the_same_version_as_one_process(write, memory_rows: int, address: str, tmp_path: Path) -> None:
    path = synthetic.write_csv(tmp_path / "data", faulty())
    source = locate(DataSettings(local_path=write(path) if write else path))
    place = LocalStore(tmp_path / "store")
    stored, reports, quarantined = [], [], []
    for name, engine in (("one", {}), ("cluster", {"engine": "dask", "scheduler_address": address})):
        settings = EtlSettings.model_validate(
            {"chunk_rows": 500, "memory_rows": memory_rows, "work_dir": tmp_path / "work", **engine}
        )
        with building(source, LAX, settings, NOW) as release:
            stored.append(write_dataset(place, name, release, release.features, {}))
            reports.append(release.report)
            quarantined.append(release.quarantined)
    assert stored[0].version == stored[1].version and reports[0] == reports[1]
    account = reports[0].tables["interactions"]
    assert account.quarantined > 50 and account.duplicates > 150 and account.rows >= 3200
    pd.testing.assert_frame_equal(*quarantined)
    for table in ("interactions", "features", "items", "users"):
        pd.testing.assert_frame_equal(*(read_table(place, ref, table) for ref in stored))
    assert (
        read_manifest(place, "one", stored[0].version)["schema"] == read_manifest(place, "cluster", stored[1].version)["schema"]
    )


@pytest.mark.parametrize("name", own_events.SHAPES)
def test_a_teams_own_events_are_the_same_on_a_cluster(name: str, address: str, tmp_path: Path) -> None:
    shape = own_events.SHAPES[name]()
    own_events.write(shape, tmp_path / "data")
    given = {"dataset": "own", "local_path": tmp_path / "data", **shape.data, **shape.tables}
    source = locate(DataSettings.model_validate(given))
    place, stored = LocalStore(tmp_path / "store"), []
    for where, engine in (("one", {}), ("cluster", {"engine": "dask", "scheduler_address": address})):
        settings = EtlSettings.model_validate({"chunk_rows": 700, "memory_rows": 900, "work_dir": tmp_path / "work", **engine})
        with building(source, LAX, settings, NOW) as release:
            stored.append(write_dataset(place, where, release, release.features, {}))
    assert stored[0].version == stored[1].version and stored[0].properties == stored[1].properties == source.properties
    for table in ("interactions", "features", "items", "users", *(f"{column}s" for column in source.properties.text_columns)):
        pd.testing.assert_frame_equal(*(read_table(place, ref, table) for ref in stored))


def test_files_that_make_no_dataset_are_refused_as_in_one_process(address: str, tmp_path: Path) -> None:
    settings = EtlSettings(engine="dask", scheduler_address=address, work_dir=tmp_path / "work")
    path = tmp_path / "ratings.csv"
    for text, error, said in (
        ("userId,movieId,rating,timestamp\n", SourceError, "only a header"),
        ("userId,movieId,rating,timestamp\n1,2,9,1000000000\n", DataRefusedError, "rating is outside"),
    ):
        path.write_text(text)
        with (
            pytest.raises(error, match=said),
            building(locate(DataSettings(local_path=path)), ValidationSettings(), settings, NOW),
        ):
            pass
    path = tmp_path / "cut.csv.gz"
    text = "userId,movieId,rating,timestamp\n" + "".join(f"{user},{user % 9},3,{10**9 + user}\n" for user in range(20_000))
    path.write_bytes(gzip.compress(text.encode(), mtime=0)[:-3000])
    with pytest.raises(SourceError, match="cut short"), building(locate(DataSettings(local_path=path)), LAX, settings, NOW):
        pass


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.ingest.engine_dask.ANSWER_S", 1)
    path = synthetic.write_csv(tmp_path / "data", synthetic.interactions(5, 10, 6))
    settings = EtlSettings(engine="dask", scheduler_address="tcp://127.0.0.1:9", work_dir=tmp_path / "work")
    with (
        pytest.raises(SettingsError, match=r"etl\.scheduler_address is tcp://127\.0\.0\.1:9, but no Dask scheduler"),
        building(locate(DataSettings(local_path=path)), LAX, settings, NOW),
    ):
        pass


@contextmanager
def processes(workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Run a scheduler and workers that can be killed. Yield the address, and the processes with the scheduler first."""
    port = reserved_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen([*dask, "scheduler", "--port", str(port), "--no-dashboard"], **QUIET)
    options = ["--nthreads", "1", "--no-dashboard", "--no-nanny"]
    started = [subprocess.Popen([*dask, "worker", address, *options], **QUIET) for _ in range(workers)]
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 5).close(), scheduler, 600)
        yield address, [scheduler, *started]
    finally:
        for each in (scheduler, *started):
            each.kill()
            each.wait()


def test_a_cluster_without_workers_is_reported_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = synthetic.write_csv(tmp_path / "data", synthetic.interactions(5, 10, 6))
    with processes(workers=0) as (address, _):
        monkeypatch.setattr("tasks.ingest.engine_dask.ANSWER_S", 10)
        settings = EtlSettings(engine="dask", scheduler_address=address, work_dir=tmp_path / "work")
        with (
            pytest.raises(SettingsError, match=r"the scheduler there has had no worker for 10 s.*dask worker"),
            building(locate(DataSettings(local_path=path)), LAX, settings, NOW),
        ):
            pass


@pytest.mark.parametrize("lost", ["scheduler", "worker"])
def test_a_cluster_that_is_lost_on_the_way_is_reported_in_bounded_time(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = synthetic.write_csv(tmp_path / "data", synthetic.interactions(50, 30, 10))
    read, lost_at = DaskEngine.read, list[float]()

    with processes(workers=1) as (address, started):

        def read_and_lose(engine: DaskEngine, *given: object) -> None:
            read(engine, *given)  # type: ignore[arg-type]
            monkeypatch.setattr("tasks.ingest.engine_dask.ANSWER_S", 3)
            started[lost == "worker"].kill()
            lost_at.append(time.monotonic())

        monkeypatch.setattr(DaskEngine, "read", read_and_lose)
        settings = EtlSettings(engine="dask", scheduler_address=address, work_dir=tmp_path / "work")
        with (
            pytest.raises(SettingsError, match=rf"{address}, but the cluster was lost .* Nothing was stored"),
            building(locate(DataSettings(local_path=path)), LAX, settings, NOW),
        ):
            pass
        assert time.monotonic() - lost_at[0] < 300


def test_landed_files_are_read_by_the_cluster_as_by_one_process(address: str, tmp_path: Path) -> None:
    path = parquet(synthetic.write_csv(tmp_path / "zone", faulty()))
    path.with_name("movies.csv").unlink()
    landed = []
    for name, engine in (("one", {}), ("cluster", {"engine": "dask", "scheduler_address": address})):
        settings = EtlSettings.model_validate({"chunk_rows": 500, "work_dir": tmp_path / "work", **engine})
        landed.append(
            land(
                LocalStore(tmp_path / name),
                FolderZone(tmp_path / "zone"),
                "films",
                LandingOptions(LAX, LandingSettings(base="none", settle_s=0), settings, NOW),
            )
        )
    assert landed[0].dataset.version == landed[1].dataset.version
    assert landed[0].accounts == landed[1].accounts


def test_landing_does_not_ignore_a_scheduler_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.ingest.engine_dask.ANSWER_S", 1)
    synthetic.write_csv(tmp_path / "zone", synthetic.interactions(5, 10, 6))
    settings = EtlSettings(engine="dask", scheduler_address="tcp://127.0.0.1:9", work_dir=tmp_path / "work")
    options = LandingOptions(LAX, LandingSettings(base="none", settle_s=0), settings, NOW)
    with pytest.raises(SettingsError, match=r"etl\.scheduler_address is tcp://127\.0\.0\.1:9, but no Dask scheduler"):
        land(LocalStore(tmp_path / "store"), FolderZone(tmp_path / "zone"), "films", options)
