from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.tables import ParquetWriter, read_parquet


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


def test_after_an_error_nothing_new_is_left_and_the_previous_file_stays(tmp_path: Path) -> None:
    (tmp_path / "out.parquet").write_text("before")
    with pytest.raises(ZeroDivisionError), ParquetWriter(tmp_path / "out.parquet") as writer:
        writer.write(pd.DataFrame({"a": [1]}))
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.parquet", "before")]


def test_a_frame_that_cannot_be_written_raises_by_the_end_of_the_block(tmp_path: Path) -> None:
    with (
        pytest.raises(pa.ArrowInvalid, match="Conversion failed for column a"),
        ParquetWriter(tmp_path / "out.parquet") as writer,
    ):
        writer.write(pd.DataFrame({"a": [1]}))
        writer.write(pd.DataFrame({"a": ["x"]}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("background", [True, False])
def test_a_file_with_a_schema_counts_its_rows_and_knows_their_extent(background: bool, tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.float64())])
    with ParquetWriter(tmp_path / "out.parquet", schema, background=background, extent_of="a") as writer:
        assert (writer.rows, writer.first, writer.last) == (0, 0, 0)
        writer.write({"b": np.array([0.5, 1.5]), "a": np.array([7, 5]), "other": np.array([1, 2])})
        writer.write(pd.DataFrame({"a": [], "b": []}))
        writer.write(pd.DataFrame({"other": [1], "a": [9], "b": [2.5]}))
    assert (writer.rows, writer.first, writer.last) == (3, 5, 9)
    assert pq.read_table(writer.path).to_pylist() == [{"a": 7, "b": 0.5}, {"a": 5, "b": 1.5}, {"a": 9, "b": 2.5}]


def test_a_file_with_a_schema_exists_even_without_rows(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64())])
    with ParquetWriter(tmp_path / "out.parquet", schema) as writer:
        pass
    assert writer.rows == 0 and pq.read_schema(writer.path).equals(schema)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # from the writer that could not be closed
def test_a_file_that_cannot_be_completed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: pq.ParquetWriter) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "close", full)
    with pytest.raises(OSError, match="No space left"), ParquetWriter(tmp_path / "out.parquet") as writer:
        writer.write(pd.DataFrame({"a": [1]}))
    assert list(tmp_path.iterdir()) == []


def test_a_stored_table_is_read_in_the_requested_order_with_present_names_and_without_copies(tmp_path: Path) -> None:
    stored = pd.DataFrame(
        {"user_id": [1], "movie_id": [2], "title": pd.Series(["x"], dtype="string"), "year": pd.array([None], "Int64")}
    )
    stored.to_parquet(tmp_path / "old.parquet", index=False)
    present = stored.rename(columns={"movie_id": "item_id"})
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "old.parquet"), present)
    columns = ["year", "item_id", "user_id"]
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "old.parquet", columns), present[columns])
    numbers = pd.DataFrame({"movie_id": np.arange(1 << 20), "user_id": np.arange(1 << 20)})
    numbers.to_parquet(tmp_path / "large.parquet", index=False)
    tracemalloc.start()  # it sees NumPy's memory but not Arrow's
    read_parquet(tmp_path / "large.parquet", ["user_id", "item_id"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.25 * numbers.memory_usage(index=False).sum(), "the numbers were copied more than once"


def test_a_stored_index_is_not_a_column(tmp_path: Path) -> None:
    pd.DataFrame({"movie_id": [2, 3]}, index=[7, 9]).to_parquet(tmp_path / "indexed.parquet")
    found = read_parquet(tmp_path / "indexed.parquet")
    assert list(found.columns) == ["item_id"] and list(found.index) == [7, 9]


def test_a_former_name_beside_its_present_one_is_a_column_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pd.DataFrame({"item_id": [1], "movie_id": [77], "movie_idx": [3]}).to_parquet(path, index=False)
    assert read_parquet(path).to_dict("records") == [{"item_id": 1, "movie_id": 77, "item_idx": 3}]
    assert list(read_parquet(path, ["movie_id"])) == ["movie_id"]
