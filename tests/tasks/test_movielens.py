from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import SourceError
from tasks.movielens import INTERACTION_COLUMNS, read_folder, read_ratings_file, unpack
from tests import synthetic


@pytest.mark.parametrize("write", [synthetic.write_csv, synthetic.write_dat, synthetic.write_u_data, synthetic.write_atomic])
def test_every_format_gives_the_same_interactions_in_source_order(
    write: Callable[[Path, pd.DataFrame], Path], tmp_path: Path
) -> None:
    frame = synthetic.interactions(10, 20, 8)
    path = write(tmp_path / "data", frame)
    for tables in (read_folder(tmp_path / "data"), read_ratings_file(path), read_folder(tmp_path)):
        assert list(tables.interactions.columns) == INTERACTION_COLUMNS
        pd.testing.assert_frame_equal(tables.interactions, frame, check_dtype=False)
        assert tables.items is not None
        assert set(tables.items.columns) == {"movie_id", "title", "year", "genres"}
        assert path in tables.files


def test_titles_lose_their_year_and_keep_their_letters(tmp_path: Path) -> None:
    tables = read_ratings_file(synthetic.write_dat(tmp_path, synthetic.interactions(3, 10, 5)))
    assert tables.items is not None and tables.users is not None
    assert tables.items["title"].str.startswith("Amélie Film").all()
    assert not tables.items["title"].str.contains(r"\(").any()
    assert tables.items["year"].between(1910, 1999).all()
    assert list(tables.users["zip_code"].astype(str).str.len().unique()) == [5]


def test_u_item_flags_become_genre_names(tmp_path: Path) -> None:
    tables = read_ratings_file(synthetic.write_u_data(tmp_path, synthetic.interactions(3, 10, 5)))
    assert tables.items is not None and tables.users is not None
    assert set(tables.items["genres"]) == {"Comedy"}
    assert set(tables.items["year"]) == {1995}
    assert set(tables.users["occupation"]) == {"writer"}


@pytest.mark.parametrize("name", ["u.data", "ratings.dat", "x.inter"])
def test_a_ratings_file_alone_has_no_items_and_users(name: str, tmp_path: Path) -> None:
    frame = synthetic.interactions(3, 10, 5)
    write = {"u.data": synthetic.write_u_data, "ratings.dat": synthetic.write_dat, "x.inter": synthetic.write_atomic}[name]
    path = write(tmp_path, frame)
    for other in tmp_path.iterdir():
        if other != path:
            other.unlink()
    tables = read_ratings_file(path)
    assert tables.items is None and tables.users is None and tables.files == (path,)


def test_a_csv_of_another_name_without_movies_is_read(tmp_path: Path) -> None:
    path = synthetic.write_csv(tmp_path, synthetic.interactions(3, 10, 5)).rename(tmp_path / "events.csv")
    (tmp_path / "movies.csv").unlink()
    assert read_ratings_file(path).items is None


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.dat", "u.data"])
def test_an_empty_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(SourceError, match=name):
        read_folder(tmp_path)


def test_a_header_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    with pytest.raises(SourceError, match="only a header"):
        read_folder(tmp_path)


def test_wrong_columns_are_named_with_those_found(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user,movieId,rating,when\n1,2,3,4\n")
    with pytest.raises(SourceError, match="lacks the column userId, timestamp; its columns are user, movieId, rating, when"):
        read_folder(tmp_path)


def test_a_folder_without_ratings_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match=r"ratings\.csv, found notes\.txt"):
        read_folder(tmp_path)
    with pytest.raises(SourceError, match="no known format"):
        read_ratings_file(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.dat"])
def test_a_file_that_is_no_table_is_refused(name: str, tmp_path: Path) -> None:
    rows = ["1,2,3,4", "1,2,3,4,5,6,7"] if name.endswith("csv") else ["1::2::3::4", "1::2::3::4::5::6::7"]
    (tmp_path / name).write_text("\n".join([rows[0].replace("1,2,3,4", "userId,movieId,rating,timestamp"), *rows]))
    with pytest.raises(SourceError, match="cannot be read"):
        read_folder(tmp_path)


def test_a_zip_is_unpacked_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "ml"
    synthetic.write_csv(folder, synthetic.interactions(3, 10, 5))
    archive = synthetic.write_zip(tmp_path / "ml.zip", folder)
    unpacked = unpack(archive, tmp_path / "out")
    assert len(read_folder(unpacked).interactions) == 15
    assert unpack(archive, tmp_path / "out") == unpacked
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(SourceError, match=r"ml\.zip is damaged or truncated"):
        unpack(archive, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ml", "ml.zip", "out"]


def test_a_zip_with_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ratings.csv", "userId,movieId,rating,timestamp\n1,2,3,4\n")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[60] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(bytes(content))
    with pytest.raises(SourceError, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil.csv", "x")
    with pytest.raises(SourceError, match="leaves its folder"):
        unpack(tmp_path / "evil.zip", tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("evil.csv"))
