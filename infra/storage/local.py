"""The store: named objects in a local folder or an S3 bucket, behind one small interface.

Concurrency rests on one primitive, the create-only write `put_new`. If several writers create the same key, exactly one of
them wins, and nobody ever reads a partial object.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import time
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from configs.errors import (
    AlreadyExistsError,
    NotFoundError,
    SettingsError,
    StoreDeniedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from configs.settings import StoreSettings

__all__ = ["LocalStore", "Store", "open_store"]

TEMPORARY = ".tmp"  # files under this prefix are not objects of the store
LEFTOVER_S = 86_400  # a temporary file this old belongs to a writer that was killed


class Store(ABC):
    """The interface of a store. Keys are relative paths with `/`. Every method raises StoreError or one of its subclasses."""

    @abstractmethod
    def put_new(self, key: str, data: bytes | Path) -> None:
        """Write an object that must not exist yet. If it exists, leave it unchanged and raise AlreadyExistsError."""

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

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object. If it does not exist, nothing happens."""

    @abstractmethod
    def uri(self, key: str) -> str:
        """Return the object's address, for people and links."""

    def local_file(self, key: str) -> Path | None:
        """Return the object's file (read only) if the store is on this machine, or None if the object must be fetched."""
        return None


def open_store(settings: StoreSettings) -> Store:
    """Open the store at `settings.url`. Raises SettingsError if the address is of an unknown kind."""
    url = settings.url
    if url.startswith("file:"):
        folder = url.removeprefix("file:")
        folder = folder.removeprefix("//") if folder.startswith("///") else folder
        if not folder or folder.startswith("//"):
            raise SettingsError(f"store.url is {url!r}: write file:<folder>, for example file:.recsys/store.")
        return LocalStore(Path(folder))
    if url.startswith("s3://"):
        from infra.storage.s3 import S3Store  # boto3 takes a second to import; a local run never needs it

        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise SettingsError(f"store.url is {url!r}: write s3://<bucket> or s3://<bucket>/<prefix>.")
        return S3Store(bucket, prefix.strip("/"), settings)
    raise SettingsError(f"store.url is {url!r}: write file:<folder> for a folder or s3://<bucket>/<prefix> for S3.")


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
        raise _store_error(error, path, "that receives a stored object") from error


class LocalStore(Store):
    """Objects as files in one folder.

    An object is written under a temporary name, synced, and then linked to its final name. Linking fails if the name is
    taken, so creation is exclusive and complete, even if the process is killed between any two instructions.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()

    def put_new(self, key: str, data: bytes | Path) -> None:
        target = self._path(key)
        with source_of(data) as source, self._failing(target), self._written(source) as temporary:
            _make_folder(target.parent)
            try:
                os.link(temporary, target)
            except FileExistsError:
                raise AlreadyExistsError(
                    f"{self.uri(key)} exists already and is never overwritten; another run has written it."
                ) from None
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                raise StoreError(
                    f"The file system of {self.folder} has no hard links ({error.strerror}), which create-only writes need. "
                    "Point store.url at a folder on a local disk, or at S3."
                ) from error
            _sync_folder(target.parent)

    def put(self, key: str, data: bytes | Path) -> None:
        target = self._path(key)
        with source_of(data) as source, self._failing(target), self._written(source) as temporary:
            _make_folder(target.parent)
            temporary.replace(target)
            _sync_folder(target.parent)

    def get(self, key: str, limit: int | None = None) -> bytes:
        path = self._path(key)
        with self._failing(path), path.open("rb") as file:
            content = file.read(-1 if limit is None else limit + 1)
        if limit is not None and len(content) > limit:
            raise too_large(self.uri(key), limit)
        return content

    def fetch(self, key: str, path: Path) -> None:
        stored = self._path(key)
        with self._failing(stored):
            source = stored.open("rb")
        with source, arriving(path) as file:
            shutil.copyfileobj(source, file, 1 << 20)

    def exists(self, key: str) -> bool:
        path = self._path(key)
        with self._failing(path):
            return path.is_file()

    def list(self, prefix: str = "") -> Iterator[str]:
        parts = prefix.split("/")[:-1]
        if any(part in ("", ".", "..") for part in parts):  # no key has such a prefix, and other folders must not be walked
            return
        keys = []
        with self._failing(self.folder):
            for parent, _, names in os.walk(self.folder.joinpath(*parts), onerror=_unless_missing):
                keys += [(Path(parent) / name).relative_to(self.folder).as_posix() for name in names]
        yield from sorted(key for key in keys if key.startswith(prefix) and not key.startswith(f"{TEMPORARY}/"))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._failing(path), suppress(IsADirectoryError, NotADirectoryError):  # a folder is not an object
            path.unlink(missing_ok=True)

    def uri(self, key: str) -> str:
        return (self.folder / key).as_uri()

    def local_file(self, key: str) -> Path | None:
        return self._path(key)

    def _path(self, key: str) -> Path:
        return self.folder / check_key(key)

    @contextmanager
    def _written(self, source: BinaryIO) -> Iterator[Path]:
        """Provide a synced temporary copy of `source` on the store's file system. It is always removed afterwards."""
        folder = self.folder / TEMPORARY
        _make_folder(folder)
        for left in folder.iterdir():
            if _is_leftover(left):
                left.unlink(missing_ok=True)
        temporary = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with temporary.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _failing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            if error.filename != str(path):  # the error is about another file
                raise _store_error(error, path) from error
            raise NotFoundError(f"{path} is not in the store {self.folder}.") from error
        except OSError as error:
            raise _store_error(error, path) from error


def too_large(uri: str, limit: int) -> StoreError:
    return StoreError(
        f"{uri} has more than {limit:,} bytes. Objects of this kind are never stored that large, so it was replaced. Restore the "
        "object, or remove the version that it belongs to."
    )


def _store_error(error: OSError, path: Path, which: str = "of the store") -> StoreError:
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


def _unless_missing(error: OSError) -> None:
    """Ignore a missing folder: it holds no keys. Raise any other error: an unreadable folder must not look empty."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _is_leftover(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > LEFTOVER_S
    except FileNotFoundError:  # its writer has just finished
        return False


def _make_folder(folder: Path) -> None:
    """Create a folder. Its entry and the entries of its new parents survive a power failure."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
