"""Numbers for text ids: a hash of the text, so every process finds the same number without a shared table.

Ids are compared byte by byte, as databases compare keys. Upper and lower case differ, and so do two Unicode spellings of one letter.
Of ten million ids, two have the same number with a probability of five in a million. Datasets detect it (`tasks.datasets`).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["number_of", "numbers_of"]

BYTES = 8
SIGN_FREE = 2**63 - 1


def number_of(text: str) -> int:
    """Return the number of a text id, from 0 to 2^63 - 1."""
    return int.from_bytes(blake2b(text.encode(), digest_size=64).digest()[:BYTES], "big") & SIGN_FREE


def numbers_of(texts: pa.Array | pa.ChunkedArray | Any) -> npt.NDArray[np.int64]:
    """Return the numbers of text ids. Each distinct text is hashed once.

    Args:
        texts: Texts (n) without missing ones, as an Arrow array, dictionary-encoded or not, or as anything that `pyarrow.array` takes.

    Returns:
        int64 (n).
    """
    found = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string())
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
        if isinstance(found, pa.ChunkedArray):  # without chunks, or too large for one
            found = pa.chunked_array(found.chunks or [pa.array([], pa.string())]).unify_dictionaries()
            return np.concatenate([numbers_of(chunk) for chunk in found.chunks])
    if not pa.types.is_dictionary(found.type):
        found = pc.dictionary_encode(found)
    numbers = _hashed(found.dictionary.to_pylist())
    return numbers[found.indices.to_numpy(zero_copy_only=False)] if len(numbers) else np.empty(0, dtype=np.int64)


def _hashed(texts: list[str]) -> npt.NDArray[np.int64]:
    digests = b"".join([blake2b(text.encode(), digest_size=64).digest()[:BYTES] for text in texts])
    numbers = np.frombuffer(digests, dtype=">u8").astype(np.uint64) & np.uint64(SIGN_FREE)
    return numbers.astype(np.int64)
