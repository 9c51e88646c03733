"""A store in a local folder."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from configs.errors import AlreadyExistsError, NotFoundError, StoreError
from infra.storage.base import TEMPORARY, Store, arriving, check_key, source_of, store_error, too_large

__all__ = ["LocalStore"]

LEFTOVER_S = 86_400  # a temporary file this old belongs to a writer that was killed


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
                if not _is_linked(temporary):
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
                raise store_error(error, path) from error
            raise NotFoundError(f"{path} is not in the store {self.folder}.") from error
        except OSError as error:
            raise store_error(error, path) from error


def _unless_missing(error: OSError) -> None:
    """Ignore a missing folder: it holds no keys. Raise any other error: an unreadable folder must not look empty."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _is_linked(temporary: Path) -> bool:
    """Return whether a link that is said to have failed was made.

    NFS repeats a request whose answer was lost, and then says that the name is taken: by the first request.
    """
    return temporary.stat().st_nlink > 1


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
