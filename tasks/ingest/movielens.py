"""Read every MovieLens format into three tables of the same shape.

The supported formats are recbole's atomic files (`.inter .item .user`), ml-100k's `u.data u.item u.user`, the `::`-separated
`.dat` files of ml-1m, and the CSV files with headers of the later releases. The files may be in a folder or in a zip, and a
ratings file may also come alone.
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.errors import SourceError
from models.columns import Columns

__all__ = [
    "Metadata",
    "RawTables",
    "find_ratings",
    "read_folder",
    "read_metadata",
    "read_ratings_file",
    "unpack",
    "with_year",
]

ITEM_COLUMNS = [Columns.ITEM, *Columns.ITEM_DESCRIPTION]
USER_COLUMNS = [Columns.USER, *Columns.USER_DESCRIPTION]
GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
CSV_NAMES = {"movie_id": Columns.ITEM, "userId": Columns.USER, "movieId": Columns.ITEM}  # messages use the last name of a column
ATOMIC_NAMES = {"movie_id": Columns.ITEM, "item_id": Columns.ITEM}


@dataclass(frozen=True, eq=False)
class RawTables:
    """The unvalidated content of a source. Cells that are not numbers are still text.

    A table that the source lacks is None.

    Attributes:
        interactions: user_id, item_id, rating, timestamp, in the source's row order.
        items: item_id, title, year, genres (joined by |).
        users: user_id, gender, age, occupation, zip_code.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame | None
    users: pd.DataFrame | None
    files: tuple[Path, ...]  # all files that were read


@dataclass(frozen=True, eq=False)
class Metadata:
    """The items and users of a source, as in RawTables, and the files they were read from."""

    items: pd.DataFrame | None
    users: pd.DataFrame | None
    files: tuple[Path, ...]


def find_ratings(folder: Path) -> Path:
    """Return the ratings file in a folder or, if it has none, in a subfolder. Raises SourceError if there is none."""
    for place in (folder, *sorted(child for child in folder.iterdir() if child.is_dir())):
        for name in _FORMATS:
            if found := sorted(place.glob(name)):
                return found[0]
    listed = ", ".join(sorted(child.name for child in folder.iterdir())[:8]) or "nothing"
    raise SourceError(
        f"{folder} contains no MovieLens ratings: expected one of {', '.join(_FORMATS)}, found {listed}. Check data.local_path."
    )


def read_folder(folder: Path) -> RawTables:
    """Read the MovieLens files in a folder or in a subfolder. Raises SourceError if there are no ratings."""
    return read_ratings_file(find_ratings(folder))


def read_ratings_file(path: Path) -> RawTables:
    """Read a ratings file, and the item and user files next to it.

    Raises:
        SourceError: The file name matches no known format, or a file is empty or damaged.
    """
    for name, known in _FORMATS.items():
        if path.match(name) or path.suffix == Path(name).suffix:
            interactions = known.ratings(path)
            if interactions.empty:
                raise no_ratings(path)
            metadata = known.metadata(path)
            return RawTables(interactions, metadata.items, metadata.users, (path, *metadata.files))
    raise SourceError(f"{path.name} is not in a known format. A ratings file is one of {', '.join(_FORMATS)}.")


def read_metadata(ratings: Path) -> Metadata:
    """Read the item and user files next to a ratings file, if there are any."""
    for name, known in _FORMATS.items():
        if ratings.match(name) or ratings.suffix == Path(name).suffix:
            return known.metadata(ratings)
    return _FORMATS["ratings.csv"].metadata(ratings)  # Parquet and gzipped CSV come with a movies.csv, as in later releases


def no_ratings(path: Path) -> SourceError:
    """Return the error for a file that has no rows."""
    return SourceError(
        f"{path} contains no ratings: it {'has only a header' if path.stat().st_size else 'is empty'}. Provide a file with rows."
    )


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip into `folder` atomically. An existing folder is reused.

    Raises:
        SourceError: The zip is damaged or encrypted, a path in it points outside its folder, or the folder cannot be written.
    """
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.namelist():
                if Path(member).is_absolute() or ".." in Path(member).parts:
                    raise SourceError(
                        f"The zip {archive} contains the path {member!r}, which points outside its folder; it was not unpacked."
                    )
            members.extractall(temporary)  # this also verifies each member's checksum
        temporary.replace(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceError(
            f"The zip {archive} is damaged or truncated ({error}). Delete it so that the next run downloads it again, or "
            "provide another one (data.local_path)."
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        raise SourceError(
            f"The zip {archive} cannot be unpacked: {error}. Provide an unencrypted zip with standard compression."
        ) from error
    except OSError as error:
        if not folder.is_dir():  # otherwise, another run has unpacked the same zip in the meantime
            raise SourceError(
                f"The zip {archive} cannot be unpacked to {folder}: {error.strerror or error}. Free up space there, or "
                "choose another data.cache_dir."
            ) from error
    finally:
        _remove_tree(temporary)
    return folder


def _remove_tree(folder: Path) -> None:
    if folder.is_dir():
        for child in sorted(folder.rglob("*"), reverse=True):
            child.rmdir() if child.is_dir() else child.unlink()
        folder.rmdir()


def _atomic(path: Path) -> pd.DataFrame:
    text = {"zip_code:token": "string"}
    frame = _read_table(path, sep="\t", header=0, encoding="utf-8", quoting=csv.QUOTE_NONE, dtype=text)
    return frame.rename(columns=lambda name: str(name).split(":")[0])


def _atomic_ratings(path: Path) -> pd.DataFrame:
    return _pick(path, _atomic(path), list(Columns.EVENT), ATOMIC_NAMES)


def _atomic_metadata(path: Path) -> Metadata:
    items = users = None
    item_file, user_file = path.with_suffix(".item"), path.with_suffix(".user")
    if item_file.exists():
        # recbole's ml-100k calls genres "class", and its ml-1m "genre"; other datasets lack some of these columns
        names = {"class": Columns.GENRES, "genre": Columns.GENRES, "movie_title": Columns.TITLE, "release_year": Columns.YEAR}
        found = _pick(item_file, _atomic(item_file).rename(columns=names), ["item_id"], {}, optional=Columns.ITEM_DESCRIPTION)
        found = found.reindex(columns=["item_id", *Columns.ITEM_DESCRIPTION])
        genres = found[Columns.GENRES].astype("string").fillna("").str.replace(" ", "|")
        year = pd.to_numeric(found[Columns.YEAR], errors="coerce").astype("Int64")
        titles = found[Columns.TITLE].astype("string").fillna("")
        items = _items(found["item_id"], titles, year, genres)
    if user_file.exists():
        users = _pick(user_file, _atomic(user_file), [Columns.USER], {}, optional=Columns.USER_DESCRIPTION)
    return _metadata(items, users, item_file, user_file)


def _u_data_ratings(path: Path) -> pd.DataFrame:
    return _read_table(path, sep="\t", names=list(Columns.EVENT), encoding="latin-1", quoting=csv.QUOTE_NONE)


def _u_data_metadata(path: Path) -> Metadata:
    items = users = None
    item_file, user_file = path.with_name("u.item"), path.with_name("u.user")
    if item_file.exists():
        names = [Columns.ITEM, Columns.TITLE, "release", "video_release", "url", *GENRES_100K]
        raw = _read_table(item_file, sep="|", names=names, encoding="latin-1", quoting=csv.QUOTE_NONE)
        flags = raw[GENRES_100K].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        if np.isnan(flags).any():
            row = int(np.argmax(np.isnan(flags).any(axis=1))) + 1
            raise SourceError(
                f"Row {row} of {item_file} lacks some of the {len(GENRES_100K)} genre flags (0 or 1) at the end of each row of "
                "u.item. Fix or remove the file."
            )
        genres = ["|".join(np.array(GENRES_100K)[row]) for row in flags > 0]
        year = pd.to_numeric(raw["release"].astype("string").str[-4:], errors="coerce").astype("Int64")
        titles = _bare(raw[Columns.TITLE].astype("string").fillna(""))
        items = _items(raw[Columns.ITEM], titles, year, genres)
    if user_file.exists():
        names = [Columns.USER, Columns.AGE, Columns.GENDER, Columns.OCCUPATION, Columns.ZIP_CODE]
        text = {Columns.ZIP_CODE: "string"}  # as a number, it would lose its leading zeros
        users = _read_table(user_file, sep="|", names=names, encoding="latin-1", quoting=csv.QUOTE_NONE, dtype=text)
    return _metadata(items, users, item_file, user_file)


def _dat_ratings(path: Path) -> pd.DataFrame:
    return _read_double_colon(path, list(Columns.EVENT))


def _dat_metadata(path: Path) -> Metadata:
    items = users = None
    item_file, user_file = path.with_name("movies.dat"), path.with_name("users.dat")
    if item_file.exists():
        items = with_year(_read_double_colon(item_file, [Columns.ITEM, Columns.TITLE, Columns.GENRES]))
    if user_file.exists():
        users = _read_double_colon(user_file, USER_COLUMNS)
    return _metadata(items, users, item_file, user_file)


def _csv_ratings(path: Path) -> pd.DataFrame:
    frame = _read_table(path, sep=",", header=0, encoding="utf-8-sig")
    return _pick(path, frame, list(Columns.EVENT), CSV_NAMES)


def _csv_metadata(path: Path) -> Metadata:
    items, file = None, path.with_name("movies.csv")
    if file.exists():
        movies = _read_table(file, sep=",", header=0, encoding="utf-8-sig")
        items = with_year(_pick(file, movies, [Columns.ITEM, Columns.TITLE, Columns.GENRES], CSV_NAMES))
        items[Columns.GENRES] = items[Columns.GENRES].replace("(no genres listed)", "")
    return _metadata(items, None, file)


def _metadata(items: pd.DataFrame | None, users: pd.DataFrame | None, *files: Path) -> Metadata:
    return Metadata(items, users, tuple(file for file in files if file.exists()))


def _pick(
    path: Path, frame: pd.DataFrame, columns: list[str], names: dict[str, str], optional: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the columns, renamed by `names`, and those of `optional` that are present."""
    renamed = frame.rename(columns=names)
    in_format = {column: name for name, column in names.items()}
    missing = [in_format.get(column, column) for column in columns if column not in renamed.columns]
    if missing:
        raise SourceError(
            f"{path} lacks the column {', '.join(missing)}; its columns are {', '.join(map(str, frame.columns))}. Rename them or "
            "provide another file."
        )
    picked = [*columns, *(name for name in optional if name in renamed.columns)]
    twice = renamed[picked].columns.duplicated()
    if twice.any():
        raise SourceError(
            f"{path} has two columns for {', '.join(renamed[picked].columns[twice])}; its columns are "
            f"{', '.join(map(str, frame.columns))}. Remove one."
        )
    return renamed[picked].copy()


def _read_table(path: Path, content: io.BytesIO | None = None, **options: object) -> pd.DataFrame:
    """Read a table with pandas' C engine. A column with a non-numeric cell stays text, which validation checks later."""
    try:
        frame: pd.DataFrame = pd.read_csv(content or path, low_memory=False, **options)  # type: ignore[call-overload]
    except pd.errors.EmptyDataError as error:
        raise SourceError(f"{path} is empty. Provide a file with rows (data.local_path).") from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a table: {error}. It is damaged or in another format.") from error
    if len(frame) and not isinstance(frame.index, pd.RangeIndex):  # pandas took the surplus as the index and shifted the names
        columns = [str(name) for name in frame.columns]
        raise SourceError(
            f"The rows of {path} have {len(columns) + frame.index.nlevels} fields, but there are {len(columns)} columns: "
            f"{', '.join(columns)}. Remove the surplus fields (perhaps only a separator that ends each row)."
        )
    return frame


def _read_double_colon(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a file with `::` replaced by tabs, because pandas parses two-character separators with its slow Python engine."""
    content = io.BytesIO(path.read_bytes().replace(b"\t", b" ").replace(b"::", b"\t"))
    text = {Columns.ZIP_CODE: "string"}
    return _read_table(path, content, sep="\t", names=columns, encoding="latin-1", quoting=csv.QUOTE_NONE, dtype=text)


def with_year(items: pd.DataFrame) -> pd.DataFrame:
    """Return item_id, title, year and genres, with the year taken from the end of the title, as in `Heat (1995)`."""
    titles = items[Columns.TITLE].astype("string").fillna("")
    year = pd.to_numeric(titles.str.extract(r"\((\d{4})\)\s*$")[0], errors="coerce").astype("Int64")
    return items.assign(**{Columns.TITLE: _bare(titles)}).assign(**{Columns.YEAR: year})[ITEM_COLUMNS]


def _items(ids: pd.Series[Any], titles: pd.Series[str], year: pd.Series[int], genres: pd.Series[str] | list[str]) -> pd.DataFrame:
    return pd.DataFrame({Columns.ITEM: ids, Columns.TITLE: titles, Columns.YEAR: year, Columns.GENRES: genres})


def _bare(titles: pd.Series[str]) -> pd.Series[str]:
    """Return the titles without the year that some releases append."""
    return titles.str.replace(r"\s*\(\d{4}\)\s*$", "", regex=True)


@dataclass(frozen=True)
class _Format:
    ratings: Callable[[Path], pd.DataFrame]
    metadata: Callable[[Path], Metadata]


_FORMATS = {
    "*.inter": _Format(_atomic_ratings, _atomic_metadata),
    "u.data": _Format(_u_data_ratings, _u_data_metadata),
    "ratings.dat": _Format(_dat_ratings, _dat_metadata),
    "ratings.csv": _Format(_csv_ratings, _csv_metadata),
}
