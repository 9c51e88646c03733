from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import DataRefusedError, SourceError, StoreFullError
from configs.settings import DataSettings, EtlSettings, ValidationSettings
from infra.storage.local import LocalStore
from tasks.datasets import read_manifest, read_table, write_dataset
from tasks.ingest import build_features, building, ingest, locate
from tasks.ingest.validation import validate
from tests import synthetic

NOW = 2_000_000_000
LAX = ValidationSettings(max_quarantined_share=1.0, min_rows=1)
TABLES = ["interactions", "items", "users", "features"]


def faulty() -> pd.DataFrame:
    """Events, some of which have bad cells or are superseded by others."""
    frame = synthetic.interactions(30, 30, 12)
    again = frame.iloc[[3, 3, 50]].assign(timestamp=lambda rows: rows["timestamp"] + [50, 50, -5], rating=[1, 5, 2])
    frame = pd.concat([frame, again], ignore_index=True)
    frame.loc[[7, 100], "timestamp"] = [-4, NOW * 1000]
    frame.loc[200, "rating"] = 9
    return frame


@pytest.mark.full
@pytest.mark.parametrize("write", [synthetic.write_csv, synthetic.write_dat, synthetic.write_u_data, synthetic.write_atomic])
@pytest.mark.parametrize(("chunk_rows", "memory_rows"), [(1_000_000, 1_000_000), (100, 40), (30, 1)])
def test_building_in_pieces_gives_the_same_version_as_in_memory(
    write: Callable[[Path, pd.DataFrame], Path], chunk_rows: int, memory_rows: int, tmp_path: Path
) -> None:
    data = DataSettings(local_path=write(tmp_path / "data", faulty()))
    whole = validate(ingest(data).tables, LAX, NOW)
    place = LocalStore(tmp_path / "store")
    expected = write_dataset(
        place, "whole", whole, build_features(whole.interactions, whole.superseded), ingest(data).source_hashes
    )
    settings = EtlSettings(chunk_rows=chunk_rows, memory_rows=memory_rows, work_dir=tmp_path / "work")
    source = locate(data)
    with building(source, LAX, settings, NOW) as release:
        found = write_dataset(place, "pieces", release, release.features, source.hashes())
        assert release.report == whole.report
        pd.testing.assert_frame_equal(release.quarantined, whole.quarantined)
    assert found.version == expected.version
    for table in TABLES:
        pd.testing.assert_frame_equal(read_table(place, found, table), read_table(place, expected, table))
    manifests = [read_manifest(place, ref.name, ref.version) for ref in (found, expected)]
    for key in ("rows", "users", "items", "first", "last", "schema", "source_hashes", "validation"):
        assert manifests[0][key] == manifests[1][key]
    assert list((tmp_path / "work").iterdir()) == []


def build(tmp_path: Path, content: str, name: str = "ratings.csv", **limits: float) -> None:
    (tmp_path / name).write_text(content)
    settings = ValidationSettings.model_validate({"min_rows": 1, **limits})
    with building(locate(DataSettings(local_path=tmp_path / name)), settings, EtlSettings(work_dir=tmp_path / "work"), NOW):
        pass


HEADER = "userId,movieId,rating,timestamp\n"


def test_an_unusable_source_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="only a header"):
        build(tmp_path, HEADER)
    with pytest.raises(DataRefusedError, match="column rating of the interactions is empty in all 2 rows"):
        build(tmp_path, HEADER + "1,2,,1000000000\n1,3,,1000000000\n")
    with pytest.raises(DataRefusedError, match=r"1 of 2 .*rating is outside.*first data row 2 \(1 \| 3 \| 7 \| 1000000000\)"):
        build(tmp_path, HEADER + "1,2,3,1000000000\n1,3,7,1000000000\n")
    with pytest.raises(DataRefusedError, match="1 of 1 interactions are valid"):
        build(tmp_path, HEADER + "1,2,3,1000000000\n", min_rows=10)
    assert list((tmp_path / "work").iterdir()) == []


def test_events_of_weight_0_are_named_when_too_few_are_left(tmp_path: Path) -> None:
    rows = "".join(f"1,{item},{item % 3},1000000000\n" for item in range(9))
    (tmp_path / "events.csv").write_text("userId,movieId,kind,timestamp\n" + rows)
    data = DataSettings.model_validate(
        {"local_path": tmp_path / "events.csv", "columns": {"weight": "kind"}, "feedback": "implicit"}
    )
    settings = EtlSettings(work_dir=tmp_path / "work")
    said = (
        r"6 of 9 interactions are valid, fewer .* = 10\. 3 more have the weight 0, which leaves them out: give .* data\.weights"
    )
    with pytest.raises(DataRefusedError, match=said), building(locate(data), ValidationSettings(min_rows=10), settings, NOW):
        pass


def test_what_a_killed_run_left_is_removed_after_a_day(tmp_path: Path) -> None:
    for name, age in (("release-old", 100_000), ("release-running", 10)):
        (tmp_path / "work" / name / "sub").mkdir(parents=True)
        at = (tmp_path / "work" / name).stat().st_mtime - age
        os.utime(tmp_path / "work" / name, (at, at))
    build(tmp_path, HEADER + "1,2,3,1000000000\n")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["release-running"]


def test_a_work_dir_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file")
    with pytest.raises(StoreFullError, match=r"etl\.work_dir"):
        build(tmp_path, HEADER + "1,2,3,1000000000\n")
