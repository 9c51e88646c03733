"""The etl on a local Dask cluster of two processes gives what it gives in one."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from distributed import LocalCluster

from configs.errors import DataRefusedError, SettingsError, SourceError
from configs.settings import DataSettings, EtlSettings, ValidationSettings
from infra.storage.local import LocalStore
from tasks.datasets import read_manifest, read_table, write_dataset
from tasks.ingest import building, locate
from tests import synthetic

pytestmark = pytest.mark.full
NOW = 2_000_000_000
LAX = ValidationSettings(max_quarantined_share=1.0, min_rows=1)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit="1GiB") as cluster:
        yield str(cluster.scheduler_address)


def faulty() -> pd.DataFrame:
    """Users in no order, bad cells, events that others supersede, and two ratings of one second."""
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
    frame = pd.read_csv(io.BytesIO(path.read_bytes()))
    frame.to_parquet(path.with_name("events.parquet"), index=False, row_group_size=700)
    return path.with_name("events.parquet")


@pytest.mark.parametrize("write", [None, packed, parquet])
@pytest.mark.parametrize("memory_rows", [400, pytest.param(1_000_000, marks=pytest.mark.nightly)])
def test_a_cluster_makes_the_version_that_one_process_makes(write, memory_rows: int, address: str, tmp_path: Path) -> None:
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
    assert reports[0].tables["interactions"].quarantined > 200
    pd.testing.assert_frame_equal(*quarantined)
    for table in ("interactions", "features", "items", "users"):
        pd.testing.assert_frame_equal(*(read_table(place, ref, table) for ref in stored))
    assert (
        read_manifest(place, "one", stored[0].version)["schema"] == read_manifest(place, "cluster", stored[1].version)["schema"]
    )


def test_what_is_no_dataset_is_refused_as_in_one_process(address: str, tmp_path: Path) -> None:
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
