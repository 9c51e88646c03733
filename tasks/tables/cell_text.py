"""The text of cells that others wrote to Parquet: bytes without the mark of text are text too, and UUIDs have their usual form."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["NOT_UTF8", "decoded", "holds_bytes", "no_text", "plain_type"]

NOT_UTF8 = "\ufffd"
"""What a text has in the place of bytes that are not UTF-8."""
UUID_BYTES = 16


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of cells without the dictionaries and extensions around it."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    return plain_type(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def decoded(cells: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return bytes as text, and all other cells as they are, without the dictionaries and extensions around them.

    Cells of a fixed length of 16 bytes are UUIDs. Other bytes are UTF-8. Those that are not become NOT_UTF8.
    """
    kind = cells.type
    if isinstance(cells, pa.ChunkedArray):
        return pa.chunked_array([decoded(chunk) for chunk in cells.chunks or [pa.nulls(0, kind)]])
    if pa.types.is_dictionary(kind):
        return decoded(cells.dictionary_decode())
    if isinstance(kind, pa.BaseExtensionType):
        return decoded(cells.storage)
    if not holds_bytes(kind):
        return cells
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == UUID_BYTES:
        return pa.array([None if value is None else _uuid(value.hex()) for value in cells.to_pylist()], pa.string())
    text = pa.large_string() if pa.types.is_large_binary(kind) else pa.string()
    try:
        return pc.cast(pc.cast(cells, pa.binary()) if pa.types.is_fixed_size_binary(kind) else cells, text)
    except pa.ArrowInvalid:
        return pa.array([None if value is None else value.decode("utf-8", "replace") for value in cells.to_pylist()], text)


def no_text(name: str, path: object, kind: pa.DataType) -> str:
    """Return the fault of a column whose bytes are not text, as a sentence."""
    return f"The column {name} of {path} holds {kind} whose bytes are not text in UTF-8. Write it as text or as numbers."


def holds_bytes(kind: pa.DataType) -> bool:
    """Return whether a column holds bytes that are not marked as text."""
    kind, of = plain_type(kind), pa.types
    return bool(of.is_binary(kind) or of.is_large_binary(kind) or of.is_binary_view(kind) or of.is_fixed_size_binary(kind))


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
