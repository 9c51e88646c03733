"""The interface of a store, and what its implementations share.

Concurrency rests on one primitive, the create-only write `put_new`. If several writers create the same key, exactly one of
them wins, and nobody ever reads a partial object.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from configs.errors import NotFoundError, StoreDeniedError, StoreError, StoreFullError, StoreUnavailableError

__all__ = ["TEMPORARY", "Store", "arriving", "check_key", "source_of", "store_error", "too_large"]

TEMPORARY = ".tmp"  # files under this prefix are not objects of the store


class Store(ABC):
    """The interface of a store. Keys are relative paths with `/`. Every method raises StoreError or one of its subclasses."""

    @abstractmethod
    def put_new(self, key: str, data: bytes | Path) -> None:
        """Write an object that must not exist yet. If it exists, leave it unchanged and raise AlreadyExistsError."""

    def claim(self, key: str, data: bytes | Path) -> None:
        """Do the same for an object that decides between runs. Only one of several claims of a key returns, on any store.

        Raises:
            AlreadyExistsError: The object exists. It was left unchanged.
            OverwrittenError: The store accepted this claim and another one, and kept the other one.
        """
        self.put_new(key, data)

    @abstractmethod
    def put(self, key: str, data: bytes | Path) -> None:
        """Write or replace an object, atomically."""

    @abstractmethod
    def get(self, key: str, limit: int | None = None) -> bytes:
        """Return the object's bytes.

        Raises:
            NotFoundError: There is no such object.
            StoreError: The object has more than `limit` bytes. They are not read.
        """

    @abstractmethod
    def fetch(self, key: str, path: Path) -> None:
        """Copy the object to a file, which appears complete or not at all. Raises NotFoundError if there is no such object."""

    @abstractmethod
    def exists(self, key: str) -> bool: ...

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that start with `prefix`, in ascending order."""

    def listed(self, keys: Iterable[str], limit: int | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield each key with its object. Objects that were deleted after they had been listed are left out.

        Housekeeping deletes what is old while other processes read.
        """
        for key in keys:
            with suppress(NotFoundError):
                yield key, self.get(key, limit)

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object. If it does not exist, nothing happens."""

    @abstractmethod
    def uri(self, key: str) -> str:
        """Return the object's address, for people and links."""

    def local_file(self, key: str) -> Path | None:
        """Return the object's file (read only) if the store is on this machine, or None if the object must be fetched."""
        return None


def check_key(key: str) -> str:
    """Return the key. Raises ValueError if it is not a plain relative path."""
    path = PurePosixPath(key)
    if (
        not path.parts
        or path.is_absolute()
        or str(path) != key
        or ".." in path.parts
        or path.parts[0] == TEMPORARY
        or any(unicodedata.category(character) in ("Cc", "Cs") for character in key)
    ):
        raise ValueError(
            f"{key!r} is not a key: use a relative path without empty parts, '..', control characters or a leading {TEMPORARY!r}"
        )
    return key


@contextmanager
def source_of(data: bytes | Path) -> Iterator[BinaryIO]:
    """Open the data to be written as a file. If the source file is missing, its FileNotFoundError is passed on."""
    with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as source:
        yield source


@contextmanager
def arriving(path: Path) -> Iterator[BinaryIO]:
    """Provide a file that is renamed to `path` when the block succeeds. If the block fails, the file is removed.

    Raises StoreFullError, StoreDeniedError or StoreUnavailableError about `path`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb")
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise store_error(error, path, "that receives a stored object") from error


def too_large(uri: str, limit: int) -> StoreError:
    return StoreError(
        f"{uri} has more than {limit:,} bytes. Objects of this kind are never stored that large, so it was replaced. Restore the "
        "object, or remove the version that it belongs to."
    )


def store_error(error: OSError, path: Path, which: str = "of the store") -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFullError(
            f"The disk {which} is full ({path}: {error.strerror}). Nothing was half-written. Free space, or point store.url "
            "and work_dir at another disk, and run again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreDeniedError(
            f"{error.filename or path} cannot be used ({error.strerror}). Give this user access to the folder, or point "
            "store.url and work_dir at another one."
        )
    return StoreUnavailableError(f"The file system {which} failed at {path}: {error.strerror or error}.")
