"""The files without a header in MovieLens' old releases, and the zip of a release.

ml-100k has `u.data u.item u.user`, and ml-1m has `::`-separated `.dat` files. Their ratings are read as any event file
(`tasks.ingest.events`), and files with headers as any file of descriptions (`tasks.ingest.metadata`).
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from configs.errors import SourceError
from models.columns import Columns
from tasks.ingest.table_reading import Kind

__all__ = ["COMPANIONS", "Metadata", "RawTables", "no_ratings", "read_companions", "unpack", "with_year"]

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
    """The items and users of a source, as in RawTables, and the files that they were read from."""

    items: pd.DataFrame | None
    users: pd.DataFrame | None
    files: tuple[Path, ...]

    def table(self, kind: Kind) -> pd.DataFrame | None:
        """Return the items or the users."""
        return self.items if kind == "items" else self.users


def read_companions(ratings: Path, text_ids: Collection[str] = ()) -> Metadata:
    """Read the item and user files without a header that come with a ratings file of MovieLens, if there are any.

    Ids in the columns `text_ids` stay text, as they were written.
    """
    for names, read in COMPANIONS.items():
        found = [_sibling(ratings, name) for name in names]
        if ratings.name.lower().removesuffix(".gz") == names[0] and any(found[1:]):
            return read(found[1], found[2], dict.fromkeys(text_ids, "string"))
    return Metadata(None, None, ())


def _sibling(path: Path, name: str) -> Path | None:
    """Return the file beside `path` that has this name, in any case."""
    return next((each for each in sorted(path.parent.iterdir()) if each.name.lower() == name), None)


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


def _u_data_metadata(item_file: Path | None, user_file: Path | None, kinds: Mapping[str, str]) -> Metadata:
    items = users = None
    if item_file is not None:
        names = [Columns.ITEM, Columns.TITLE, "release", "video_release", "url", *GENRES_100K]
        raw = _read_table(item_file, sep="|", names=names, encoding="latin-1", quoting=csv.QUOTE_NONE, dtype=dict(kinds))
        flags = raw[GENRES_100K].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        if np.isnan(flags).any():
            row = int(np.argmax(np.isnan(flags).any(axis=1))) + 1
            raise SourceError(
                f"Row {row} of {item_file} lacks some of the {len(GENRES_100K)} genre flags (0 or 1) at the end of each row of "
                "u.item. Fix or remove the file."
            )
        genres = ["|".join(np.array(GENRES_100K)[row]) for row in flags > 0]
        titles = _bare(raw[Columns.TITLE].astype("string").fillna(""))
        year = whole_years(raw["release"].astype("string").str[-4:])
        items = pd.DataFrame({Columns.ITEM: raw[Columns.ITEM], Columns.TITLE: titles, Columns.YEAR: year, Columns.GENRES: genres})
    if user_file is not None:
        names = [Columns.USER, Columns.AGE, Columns.GENDER, Columns.OCCUPATION, Columns.ZIP_CODE]
        text = {Columns.ZIP_CODE: "string", **kinds}  # as a number, it would lose its leading zeros
        users = _read_table(user_file, sep="|", names=names, encoding="latin-1", quoting=csv.QUOTE_NONE, dtype=text)
    return _metadata(items, users, item_file, user_file)


def _dat_metadata(item_file: Path | None, user_file: Path | None, kinds: Mapping[str, str]) -> Metadata:
    items = users = None
    if item_file is not None:
        items = with_year(_read_double_colon(item_file, [Columns.ITEM, Columns.TITLE, Columns.GENRES], kinds))
    if user_file is not None:
        users = _read_double_colon(user_file, USER_COLUMNS, kinds)
    return _metadata(items, users, item_file, user_file)


def _metadata(items: pd.DataFrame | None, users: pd.DataFrame | None, *files: Path | None) -> Metadata:
    return Metadata(items, users, tuple(file for file in files if file is not None))


def _read_table(path: Path, content: io.BytesIO | None = None, **options: object) -> pd.DataFrame:
    """Read a table with pandas' C engine. A column with a non-numeric cell stays text, which validation checks later."""
    try:
        frame: pd.DataFrame = pd.read_csv(content or path, low_memory=False, **options)  # type: ignore[call-overload]
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a table: {error}. It is damaged or in another format.") from error
    if len(frame) and not isinstance(frame.index, pd.RangeIndex):  # pandas took the surplus as the index and shifted the names
        columns = [str(name) for name in frame.columns]
        raise SourceError(
            f"The rows of {path} have {len(columns) + frame.index.nlevels} fields, but there are {len(columns)} columns: "
            f"{', '.join(columns)}. Remove the surplus fields (perhaps only a separator that ends each row)."
        )
    return frame


def _read_double_colon(path: Path, columns: list[str], kinds: Mapping[str, str]) -> pd.DataFrame:
    """Read a file with `::` replaced by tabs, because pandas parses two-character separators with its slow Python engine."""
    content = io.BytesIO(path.read_bytes().replace(b"\t", b" ").replace(b"::", b"\t"))
    text = {Columns.ZIP_CODE: "string", **kinds}
    return _read_table(path, content, sep="\t", names=columns, encoding="latin-1", quoting=csv.QUOTE_NONE, dtype=text)


def with_year(items: pd.DataFrame) -> pd.DataFrame:
    """Return item_id, title, year and genres, with the year taken from the end of the title, as in `Heat (1995)`."""
    titles = items[Columns.TITLE].astype("string").fillna("")
    year = whole_years(titles.str.extract(r"\((\d{4})\)\s*$")[0])
    return items.assign(**{Columns.TITLE: _bare(titles)}).assign(**{Columns.YEAR: year})[ITEM_COLUMNS]


def whole_years(texts: pd.Series[str]) -> pd.Series[int]:
    """Return years as whole numbers. What is not a whole number, such as 1995.5, counts as missing."""
    years = pd.to_numeric(texts, errors="coerce").astype("Float64")
    return years.where(years == years.round()).astype("Int64")


def _bare(titles: pd.Series[str]) -> pd.Series[str]:
    """Return the titles without the year that some releases append."""
    return titles.str.replace(r"\s*\(\d{4}\)\s*$", "", regex=True)


COMPANIONS: dict[tuple[str, str, str], Callable[[Path | None, Path | None, Mapping[str, str]], Metadata]] = {
    ("u.data", "u.item", "u.user"): _u_data_metadata,
    ("ratings.dat", "movies.dat", "users.dat"): _dat_metadata,
}
"""The ratings, items and users of the releases without headers, and what reads the last two: with the types of columns, if they matter."""
