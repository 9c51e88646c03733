from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import SourceError
from models.columns import Columns
from tasks.ingest.movielens import RawTables, unpack
from tasks.ingest.sources import files_of_events, files_of_folder, read_tables
from tests import synthetic


def read_folder(folder: Path) -> RawTables:
    return read_tables(files_of_folder(folder))


def read_ratings_file(path: Path) -> RawTables:
    return read_tables(files_of_events(path))


@pytest.mark.parametrize("write", [synthetic.write_csv, synthetic.write_dat, synthetic.write_u_data, synthetic.write_atomic])
def test_every_format_gives_the_same_interactions_in_source_order(
    write: Callable[[Path, pd.DataFrame], Path], tmp_path: Path
) -> None:
    frame = synthetic.interactions(10, 20, 8)
    path = write(tmp_path / "data", frame)
    for tables in (read_folder(tmp_path / "data"), read_ratings_file(path), read_folder(tmp_path)):
        assert list(tables.interactions.columns) == list(Columns.EVENT)
        pd.testing.assert_frame_equal(tables.interactions, frame, check_dtype=False)
        assert tables.items is not None
        assert set(tables.items.columns) == {"item_id", "title", "year", "genres"}
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


@pytest.mark.parametrize(
    ("write", "items", "users"), [(synthetic.write_u_data, "u.item", "u.user"), (synthetic.write_dat, "movies.dat", "users.dat")]
)
def test_either_companion_of_a_ratings_file_may_be_missing(
    write: Callable[[Path, pd.DataFrame], Path], items: str, users: str, tmp_path: Path
) -> None:
    for missing in (items, users):
        path = write(tmp_path / missing, synthetic.interactions(3, 10, 5))
        path.with_name(missing).unlink()
        tables = read_ratings_file(path)
        assert (tables.items is None, tables.users is None) == (missing == items, missing == users)
        assert len(tables.files) == 2


FILM = "1|A (1995)|01-Jan-1995||u|" + "0|" * 18 + "0"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{FILM}\n{FILM}|1|1|1\n", r"u\.item cannot be read as a table"),
        (f"{FILM}|\n{FILM}|\n", r"rows of .*u\.item have 25 fields, but there are 24 columns"),
    ],
)
def test_a_damaged_companion_is_named(content: str, said: str, tmp_path: Path) -> None:
    path = synthetic.write_u_data(tmp_path, synthetic.interactions(3, 10, 5))
    path.with_name("u.item").write_text(content)
    with pytest.raises(SourceError, match=said):
        read_ratings_file(path)


def test_an_empty_companion_describes_nothing(tmp_path: Path) -> None:
    path = synthetic.write_u_data(tmp_path, synthetic.interactions(3, 10, 5))
    path.with_name("u.item").write_text("")
    items = read_ratings_file(path).items
    assert items is not None and not len(items)


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
    with pytest.raises(SourceError, match="lacks the columns userId, timestamp; its columns are user, movieId, rating, when"):
        read_folder(tmp_path)


def test_the_error_for_a_folder_without_ratings_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match=r"contains no ratings: expected event files .*, found notes\.txt"):
        read_folder(tmp_path)
    with pytest.raises(SourceError, match="lacks the column"):
        read_ratings_file(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.dat"])
def test_a_row_with_too_many_cells_stays_a_bad_row(name: str, tmp_path: Path) -> None:
    rows = ["1,2,3,4", "1,2,3,4,5,6,7"] if name.endswith("csv") else ["1::2::3::4", "1::2::3::4::5::6::7"]
    (tmp_path / name).write_text("\n".join([rows[0].replace("1,2,3,4", "userId,movieId,rating,timestamp"), *rows]))
    found = read_folder(tmp_path).interactions
    assert found["user_id"].iloc[-1] == rows[1] and found["item_id"].isna().sum() == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,3,900000000,\n4,5,3,900000001,\n"),
        ("ratings.dat", "1::2::3::900000000::7\n4::5::3::900000001::7\n"),
        ("u.data", "1\t2\t3\t900000000\t7\n4\t5\t3\t900000001\t7\n"),
    ],
)
def test_rows_with_a_surplus_field_do_not_shift_the_columns(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=rf"{name} have 5 fields, but there are 4 columns: user"):
        read_folder(tmp_path)


def test_two_columns_with_one_meaning_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,user_id,movieId,rating,timestamp\n1,9,2,3,900000000\n")
    with pytest.raises(SourceError, match="two columns for user_id"):
        read_folder(tmp_path)


def test_a_bad_cell_is_left_as_text_for_validation(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,3,900000000\n1,x3,3,900000000\n1,4\n")
    found = read_folder(tmp_path).interactions
    assert list(found["item_id"]) == ["2", "x3", "4"]
    assert found["user_id"].dtype == "int64" and found["rating"].isna().sum() == 1


@pytest.mark.parametrize("quoted", ['"4\t5\t3\t900000001\n', '4\t"5\t3\t900000001\n'])
def test_a_stray_quote_swallows_no_rows(quoted: str, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t2\t3\t900000000\n" + quoted + "6\t5\t3\t900000001\n")
    assert len(read_folder(tmp_path).interactions) == 3


def test_zip_codes_keep_their_leading_zeros(tmp_path: Path) -> None:
    frame = synthetic.interactions(2, 10, 5)
    (synthetic.write_dat(tmp_path / "dat", frame).with_name("users.dat")).write_text("1::F::1::10::02139\n2::M::56::16::00501\n")
    (synthetic.write_u_data(tmp_path / "u", frame).with_name("u.user")).write_text("1|9|F|x|02139\n2|8|M|y|00501\n")
    atomic = synthetic.write_atomic(tmp_path / "x", frame)
    atomic.with_suffix(".user").write_text("user_id:token\tzip_code:token\n1\t02139\n2\t00501\n")
    for folder in ("dat", "u", "x"):
        users = read_folder(tmp_path / folder).users
        assert users is not None and list(users["zip_code"]) == ["02139", "00501"]


def test_atomic_items_are_read_by_whatever_columns_they_have(tmp_path: Path) -> None:
    path = synthetic.write_atomic(tmp_path, synthetic.interactions(3, 10, 5))
    path.with_suffix(".item").write_text('item_id:token\tmovie_title:token_seq\tgenre:token_seq\n2\t"A" film\tDrama War\n')
    items = read_ratings_file(path).items
    assert items is not None
    assert items.iloc[0].to_list()[:2] == [2, '"A" film'] and pd.isna(items.iloc[0]["year"])
    assert items.iloc[0]["genres"] == "Drama|War"
    path.with_suffix(".item").write_text("movie:token\n2\n")
    with pytest.raises(SourceError, match=r"x\.item lacks the column item_id"):
        read_ratings_file(path)


@pytest.mark.parametrize("row", ["1|A (1995)|01-Jan-1995||u|0|1\n", "1|A|01-Jan-1995||u|" + "|".join("x" * 19) + "\n"])
def test_movies_without_their_genre_flags_are_refused(row: str, tmp_path: Path) -> None:
    path = synthetic.write_u_data(tmp_path, synthetic.interactions(3, 10, 5))
    path.with_name("u.item").write_text(row)
    with pytest.raises(SourceError, match=r"Row 1 of .*u\.item"):
        read_ratings_file(path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ratings.csv", "x")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(content))
    with pytest.raises(SourceError, match="encrypted"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    synthetic.write_csv(tmp_path / "ml", synthetic.interactions(3, 10, 5))
    archive = synthetic.write_zip(tmp_path / "ml.zip", tmp_path / "ml")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(SourceError, match=r"data\.cache_dir"):
        unpack(archive, tmp_path / "cache" / "ml")


def test_two_runs_that_unpack_one_zip_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic.write_csv(tmp_path / "ml", synthetic.interactions(3, 10, 5))
    archive = synthetic.write_zip(tmp_path / "ml.zip", tmp_path / "ml")
    extract = zipfile.ZipFile.extractall

    def other_run_is_first(members: zipfile.ZipFile, path: Path) -> None:
        extract(members, tmp_path / "out")
        extract(members, path)

    monkeypatch.setattr(zipfile.ZipFile, "extractall", other_run_is_first)
    assert len(read_folder(unpack(archive, tmp_path / "out")).interactions) == 15
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ml", "ml.zip", "out"]


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


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_with_flipped_bytes_is_refused(compression: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as archive:
        archive.writestr("ratings.csv", synthetic.interactions(9, 20, 9).to_csv(index=False))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[60:90] = bytes(byte ^ 0xFF for byte in content[60:90])
    (tmp_path / "a.zip").write_bytes(bytes(content))
    with pytest.raises(SourceError, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil.csv", "x")
    with pytest.raises(SourceError, match="points outside its folder"):
        unpack(tmp_path / "evil.zip", tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("evil.csv"))


def test_descriptions_beside_a_parquet_or_gzipped_file_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat (1995),Crime\n")
    for name in ("events.parquet", "events.csv.gz"):
        ((kind, found),) = files_of_events(tmp_path / name).described(latest=2_000_000_000)
        assert kind == "items" and list(found.frame["title"]) == ["Heat"]


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.inter"])
def test_files_with_the_former_name_of_the_item_column_are_read(name: str, tmp_path: Path) -> None:
    separator, kinds = ("\t", ":token") if name.endswith(".inter") else (",", "")
    header = separator.join([f"user_id{kinds}", f"movie_id{kinds}", f"rating{kinds}", f"timestamp{kinds}"])
    (tmp_path / name).write_text(f"{header}\n{separator.join(['1', '7', '4', '900000000'])}\n")
    (tmp_path / "movies.csv").write_text("movie_id,title,genres\n7,Heat (1995),Crime\n")
    tables = read_ratings_file(tmp_path / name)
    assert list(tables.interactions["item_id"]) == [7]
    if name.endswith(".csv"):
        assert tables.items is not None and list(tables.items["item_id"]) == [7]
