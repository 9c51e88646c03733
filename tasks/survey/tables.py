"""Read the first rows of every table of a file, a folder or a zip, with all columns."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from configs.errors import SourceError
from infra.landing_zone import is_source
from tasks.tables import DAMAGE, NOT_UTF8, decoded, file_format, header_of, holds_bytes, is_zip, plain_type

__all__ = ["MOST_ROWS", "SurveyedTable", "tables_at", "tables_beside"]

MOST_ROWS = 2_000_000
"""Rows that are looked at, of all files of a folder together. The others are read by the retraining."""
FEW_ROWS = 2_000
"""Rows of each further file of a folder, after MOST_ROWS, and of each file beside the one that is surveyed. They tell what it holds."""
MOST_BESIDE = 50
NUMERIC = " +-.0123456789"  # of such characters, a first line has no names
TABLES_END = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".inter", ".item", ".user")


@dataclass(frozen=True, eq=False)
class SurveyedTable:
    """The first rows of a file."""

    name: str  # relative to what is surveyed
    cells: pa.Table  # texts, or the types of a Parquet file without bytes
    is_whole: bool


@contextmanager
def tables_at(path: Path) -> Iterator[list[SurveyedTable]]:
    """Provide the tables of a file, a folder or a zip. Files that are not tables are skipped in a folder and in a zip.

    Raises:
        SourceError: There is no table, or a file that was named itself cannot be read.
    """
    if not path.exists():
        raise SourceError(f"{path} does not exist. Give the path of a file, a folder or a zip.")
    if path.is_dir():
        yield _of_folder(path, path)
    elif is_zip(path):
        with tempfile.TemporaryDirectory(prefix="recsys-survey-") as folder:
            try:
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(folder)
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
                raise SourceError(f"{path} cannot be unpacked ({error}). Copy it again.") from error
            yield _of_folder(Path(folder), path)
    else:
        yield [_read(path, path.name, MOST_ROWS)]


def tables_beside(path: Path) -> Iterator[SurveyedTable]:
    """Yield the first rows of the tables in the folder of a file. What cannot be read is skipped, and so are folders and zips."""
    try:
        others = sorted(other for other in path.parent.iterdir() if other.name != path.name and _may_be_table(other, other.name))
    except OSError:  # a folder that others may enter and not list
        return
    for other in others[:MOST_BESIDE]:
        try:
            yield _read(other, other.name, FEW_ROWS)
        except SourceError:
            continue


def _may_be_table(path: Path, name: str) -> bool:
    return is_source(name) and path.name.lower().removesuffix(".gz").endswith(TABLES_END) and path.is_file()


def _of_folder(folder: Path, named: Path) -> list[SurveyedTable]:
    found, faults = [], []
    room = MOST_ROWS
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not _may_be_table(path, name):
            continue
        try:
            found.append(_read(path, name, max(room, FEW_ROWS)))
            room -= len(found[-1].cells)
        except SourceError as error:
            faults.append(str(error))
    if not found:
        why = f" {faults[0]}" if faults else " Expected CSV or Parquet files, plain or gzipped."
        raise SourceError(f"{named} contains no table with named columns.{why}")
    return found


def _read(path: Path, name: str, most: int) -> SurveyedTable:
    found = file_format(path)
    try:
        if found.is_parquet:
            with pq.ParquetFile(path) as file:
                _refuse_twice(path, file.schema_arrow.names)
                return _taken(name, file.iter_batches(min(most, 1 << 17)), file.schema_arrow, most)
        header = header_of(path, found, ())
        if not any(column.strip(NUMERIC) for column in header.names):
            raise SourceError(
                f"The first line of {path} is not a header: it has numbers only. Give its columns names in a first line, such as "
                "user_id,item_id,timestamp. MovieLens' files without a header need no settings."
            )
        _refuse_twice(path, header.names)
        with pa.input_stream(str(path), compression="gzip" if found.is_gzipped else None) as stream:
            stream.read(header.data_from)
            reader = pa_csv.open_csv(
                stream,
                pa_csv.ReadOptions(column_names=list(header.names), block_size=1 << 23),
                pa_csv.ParseOptions(
                    delimiter=header.separator,
                    quote_char=False if header.is_atomic else '"',
                    newlines_in_values=True,
                    invalid_row_handler=lambda row: "skip",
                ),
                pa_csv.ConvertOptions(
                    column_types={column: pa.string() for column in header.names}, strings_can_be_null=True, null_values=[""]
                ),
            )
            return _taken(name, reader, reader.schema, most)
    except DAMAGE as error:
        raise SourceError(f"{path} is damaged, or not a table: {error}. Write or copy it again.") from error


def _refuse_twice(path: Path, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise SourceError(f"{path} has two columns with the same name. Rename one.")


def _taken(name: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema, most: int) -> SurveyedTable:
    kept, rows = [], 0
    for batch in batches:
        kept.append(batch)
        rows += batch.num_rows
        if rows > most:
            break
    table = pa.Table.from_batches(kept, schema).slice(0, most)
    return SurveyedTable(name, pa.table(list(map(_decoded, table.columns)), names=table.column_names), rows <= most)


def _decoded(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return bytes as text. Those that are not text stay bytes."""
    texts = decoded(cells)
    is_bytes = holds_bytes(plain_type(cells.type))
    return cells if is_bytes and pc.any(pc.match_substring(texts, NOT_UTF8)).as_py() else texts
