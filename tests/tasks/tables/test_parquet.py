from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.tables import ParquetWriter


@pytest.mark.parametrize("temporary", [True, False])
def test_pieces_become_one_file_in_order(temporary: bool, tmp_path: Path) -> None:
    frames = [pd.DataFrame({"a": range(start, start + 3), "b": ["x"] * 3}) for start in (0, 3, 6)]
    with ParquetWriter(tmp_path / "out.parquet", temporary=temporary) as writer:
        for frame in [*frames, frames[0].iloc[:0]]:
            writer.write(frame)
        assert not (tmp_path / "out.parquet").exists()
    assert list(pd.read_parquet(tmp_path / "out.parquet")["a"]) == list(range(9))
    assert pq.read_metadata(tmp_path / "out.parquet").num_row_groups == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_after_an_error_nothing_is_left_and_what_stood_there_stays(tmp_path: Path) -> None:
    (tmp_path / "out.parquet").write_text("before")
    with pytest.raises(ZeroDivisionError), ParquetWriter(tmp_path / "out.parquet") as writer:
        writer.write(pd.DataFrame({"a": [1]}))
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.parquet", "before")]


def test_a_frame_that_cannot_be_written_is_told_of_at_the_end_at_the_latest(tmp_path: Path) -> None:
    with (
        pytest.raises(pa.ArrowInvalid, match="Conversion failed for column a"),
        ParquetWriter(tmp_path / "out.parquet") as writer,
    ):
        writer.write(pd.DataFrame({"a": [1]}))
        writer.write(pd.DataFrame({"a": ["x"]}))
    assert list(tmp_path.iterdir()) == []
