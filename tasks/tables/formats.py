"""The format of a file that others wrote, by its content: Parquet or text, gzipped or plain, and the encoding of a text.

The name of a file decides nothing here: producers write .CSV, .tsv, .txt, or no suffix at all.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from configs.errors import SourceError

__all__ = ["HEAD_BYTES", "FileFormat", "file_format", "is_zip", "not_utf8", "opened", "read_bytes", "suffix_of"]

HEAD_BYTES = 1 << 16
GZIP, PARQUET, ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
WORKBOOKS = (".xlsx", ".xlsm", ".ods")
UTF8_MARK = b"\xef\xbb\xbf"
OTHER_COMPRESSION = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7-Zip"}
NO_TABLES = {
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word document",
    b"SQLite f": "a database of SQLite",
    b"\x7fELF": "a program",
}


@dataclass(frozen=True)
class FileFormat:
    """What the first bytes of a file say.

    Attributes:
        is_parquet: It is a Parquet file. Otherwise it is taken for text.
        is_gzipped: The text is compressed by gzip.
        head: The first HEAD_BYTES bytes of the text, uncompressed, without a byte order mark; of Parquet, none.
        mark: The length of the byte order mark that precedes `head`: 0 or 3.
        is_whole: `head` is the complete text.
    """

    is_parquet: bool = False
    is_gzipped: bool = False
    head: bytes = b""
    mark: int = 0
    is_whole: bool = False


def file_format(path: Path) -> FileFormat:
    """Return the format of a file.

    Raises:
        SourceError: The file is missing, damaged, or in a format or an encoding that is not read. The message says what to do.
    """
    with opened(path, is_gzipped=False) as file:
        start = read_bytes(path, file, 8)
    if start.startswith(PARQUET) or (path.suffix.lower() == ".parquet" and not start.startswith(GZIP)):
        return FileFormat(is_parquet=True)  # one that is named so and is not is reported as a damaged one
    if start.startswith(ZIP):
        raise SourceError(
            f"{path} is a zip, perhaps an Excel workbook. Give a zip of event files as data.local_path, unpack it, or save the "
            "workbook as CSV UTF-8."
        )
    for magic, name in OTHER_COMPRESSION.items():
        if start.startswith(magic):
            raise SourceError(f"{path} is compressed by {name}. Unpack it, or compress it by gzip.")
    for magic, name in NO_TABLES.items():
        if start.startswith(magic):
            raise SourceError(f"{path} is {name}, not a table. Provide a CSV or Parquet file.")
    is_gzipped = start.startswith(GZIP)
    with opened(path, is_gzipped=is_gzipped) as file:
        head = read_bytes(path, file, HEAD_BYTES)
    if head.startswith(PARQUET):
        raise SourceError(f"{path} is a Parquet file that was compressed by gzip. Unpack it with `gunzip`.")
    if encoding := _other_encoding(head):
        raise SourceError(f"{path} is written in {encoding}. Save it as UTF-8, for example by `iconv -f {encoding} -t UTF-8`.")
    mark = len(UTF8_MARK) if head.startswith(UTF8_MARK) else 0
    return FileFormat(is_gzipped=is_gzipped, head=head[mark:], mark=mark, is_whole=len(head) < HEAD_BYTES)


def _other_encoding(head: bytes) -> str | None:
    """Return the encoding if two or four bytes make a character."""
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    sample = head[: len(head[:1024]) & ~1]
    high, low = sample[::2].count(0), sample[1::2].count(0)
    if len(sample) >= 8 and min(high, low) == 0 and max(high, low) > len(sample) * 0.4:  # Latin letters without a mark
        return "UTF-16BE" if high else "UTF-16LE"
    return None


def not_utf8(path: Path, content: bytes, error: UnicodeDecodeError, *, of: str = "") -> SourceError:
    """Return the error for a text that is not UTF-8, with the line of the first wrong byte.

    Args:
        path: The file.
        content: The text.
        error: What its decoding raised.
        of: What the file holds, such as "items".
    """
    line = content.count(b"\n", 0, error.start) + 1
    what = f"{path} describes {of}, but it" if of else str(path)
    return SourceError(
        f"{what} is not written in UTF-8: line {line} has the byte 0x{content[error.start]:02x}, as in Latin-1 or Windows-1252. "
        f"Save it as UTF-8, for example by `iconv -f WINDOWS-1252 -t UTF-8`."
    )


def is_zip(path: Path) -> bool:
    """Return whether the file is a zip, by its content. A file that is only named so counts too, and is reported as damaged."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return False
    if path.suffix.lower() in WORKBOOKS:  # reported as what they are
        return False
    return start == ZIP or (path.suffix.lower() == ".zip" and not start.startswith((GZIP, PARQUET)))


def suffix_of(path: Path) -> str:
    """Return the suffix of a name in lower case, without that of compression: .csv for EVENTS.CSV.GZ."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def opened(path: Path, *, is_gzipped: bool) -> BinaryIO:
    """Open a file for reading its uncompressed bytes. Raises SourceError if it cannot be opened."""
    try:
        return cast(BinaryIO, gzip.open(path)) if is_gzipped else path.open("rb")
    except OSError as error:
        raise SourceError(
            f"{path} is missing or cannot be read. Correct the path, or give this user access to the file."
        ) from error


def read_bytes(path: Path, file: BinaryIO, size: int = -1) -> bytes:
    """Read from a file that `opened` returned. Raises SourceError if the file is damaged."""
    try:
        return file.read(size)
    except EOFError as error:
        raise SourceError(f"{path} is cut short: its compressed data ends too early. Copy it again.") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{path} is damaged, or not compressed by gzip: {error}. Copy it again.") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
