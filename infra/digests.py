"""Hex digests of files, bytes and JSON values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["digest_of", "sha256_of", "sha256_of_json"]


def digest_of(path: Path, algorithm: str) -> str:
    """Return the digest of a file under an algorithm of `hashlib`, such as `md5`. The file is read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def sha256_of(data: bytes | Path) -> str:
    """Return the sha256 of bytes or of a file. A file is read in blocks."""
    return digest_of(data, "sha256") if isinstance(data, Path) else hashlib.sha256(data).hexdigest()


def sha256_of_json(value: Any) -> str:
    """Return the sha256 of a value's JSON text. Keys are sorted, so their order does not matter."""
    return sha256_of(json.dumps(value, sort_keys=True).encode())
