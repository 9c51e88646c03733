"""A landing zone is a folder or S3 prefix where external producers drop files, at any time and under any name.

We never write to it. The producers are unknown, so a file may still grow, or be replaced while it is being read.
"""

from __future__ import annotations

import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from configs.errors import NotFoundError, SettingsError, SourceError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.pages import visible

if TYPE_CHECKING:
    from infra.storage import S3Store

__all__ = ["FolderZone", "LandingZone", "ObjectZone", "SourceFile", "is_source", "open_zone"]

LOG = logging.getLogger(__name__)
UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload")


@dataclass(frozen=True, order=True)
class SourceFile:
    """A file of the landing zone, as it was listed."""

    name: str  # relative to the zone, with /
    size: int  # bytes
    modified_ns: int  # since 1970, UTC
    tag: str = ""  # distinguishes it from other content of the same name: the ETag of an object, the change time of a file


class LandingZone(ABC):
    """Files delivered by external producers. Every method raises SourceError or a StoreError if the zone cannot be reached."""

    atomic: bool
    """Whether a file appears complete or not at all, so that a run need not wait until it stops growing."""

    def files(self) -> list[SourceFile]:
        """Return the current files, sorted by name.

        Hidden files (a part of the name starts with `.` or `_`) and files with the suffix of an unfinished upload are skipped.
        """
        return sorted(found for found in self._all() if is_source(found.name))

    @abstractmethod
    def opened(self, file: SourceFile, scratch: Path) -> AbstractContextManager[Path]:
        """Provide the file on this machine, under its own base name, for the duration of the block.

        A copy, if one is needed, is placed in `scratch`.

        Raises:
            NotFoundError: The file does not exist any more.
            SourceError: The name of the file is not a valid path.
        """

    @abstractmethod
    def unchanged(self, file: SourceFile) -> bool:
        """Return whether the current file is still the one that was listed."""

    @abstractmethod
    def uri(self, name: str = "") -> str: ...

    @abstractmethod
    def _all(self) -> Iterator[SourceFile]: ...


def open_zone(url: str, store: StoreSettings) -> LandingZone:
    """Open the landing zone at a folder path, `file:<folder>` or `s3://<bucket>/<prefix>`.

    Args:
        url: Address of the zone.
        store: Endpoint, region and credentials for S3.

    Raises:
        SettingsError: The address has another form.
    """
    if url.startswith("s3://"):
        from infra.storage import S3Store

        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise SettingsError(f"data.landing is {url!r}: write s3://<bucket> or s3://<bucket>/<prefix>.")
        return ObjectZone(S3Store(bucket, prefix.strip("/"), store.model_copy(update={"url": url})))
    folder = url.removeprefix("file://") if url.startswith("file:///") else url.removeprefix("file:")
    if not folder or "://" in folder or folder.startswith("//"):
        raise SettingsError(f"data.landing is {url!r}: write the path of a folder or s3://<bucket>/<prefix>.")
    return FolderZone(Path(folder))


class FolderZone(LandingZone):
    """Files in a folder and its subfolders, read in place."""

    atomic = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()

    @contextmanager
    def opened(self, file: SourceFile, scratch: Path) -> Iterator[Path]:
        path = self.folder / file.name
        if not path.is_file():
            raise NotFoundError(f"{path} was removed from the landing zone before the run could read it.")
        yield path

    def unchanged(self, file: SourceFile) -> bool:
        try:
            return self._file_at(self.folder / file.name) == file
        except OSError:
            return False

    def uri(self, name: str = "") -> str:
        return str(self.folder / name)

    def _all(self) -> Iterator[SourceFile]:
        try:
            is_folder = self.folder.is_dir()
        except OSError as error:
            raise self._unreadable(error) from error
        if not is_folder:
            raise SourceError(f"data.landing is {self.folder}, but there is no such folder. Create it, or correct the path.")
        for parent, _, names in os.walk(self.folder, onerror=self._refuse):
            for name in names:
                path = Path(parent) / name
                try:
                    found = self._file_at(path)
                except FileNotFoundError:  # removed since it was listed, or a broken link
                    continue
                except OSError as error:  # one unreadable file, such as a link to itself, must not block the others
                    LOG.warning(
                        "%s is skipped: %s. Fix it, or remove it from the landing zone.", visible(str(path)), error.strerror
                    )
                    continue
                yield found

    def _file_at(self, path: Path) -> SourceFile:
        found = path.stat()
        # A writer can set the modification time, but not the change time.
        return SourceFile(path.relative_to(self.folder).as_posix(), found.st_size, found.st_mtime_ns, str(found.st_ctime_ns))

    def _refuse(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"The landing zone cannot be read at {error.filename}: {error.strerror}. Give this user access to it."
        )


class ObjectZone(LandingZone):
    """Objects under a prefix of a bucket, copied before they are read."""

    atomic = True

    def __init__(self, store: S3Store) -> None:
        self.store = store

    @contextmanager
    def opened(self, file: SourceFile, scratch: Path) -> Iterator[Path]:
        folder = scratch / "object"  # of its own: an object may be named like a file of the run
        path = folder / PurePosixPath(file.name).name
        try:
            self.store.fetch(file.name, path)
        except ValueError as error:
            raise SourceError(f"{error}. Rename the object in the landing zone {self.uri()}.") from error
        try:
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def unchanged(self, file: SourceFile) -> bool:
        return True  # the run reads a copy, and all bytes of the copy come from one object

    def uri(self, name: str = "") -> str:
        return self.store.uri(name) if name else self.store.uri(".").removesuffix(".")

    def _all(self) -> Iterator[SourceFile]:
        for found in self.store.entries():
            yield SourceFile(found.key, found.size, int(found.modified.timestamp()) * 10**9, found.tag)


def is_source(name: str) -> bool:
    """Return whether a file of this name, relative to the zone, is meant to be read: it is not hidden and not an unfinished copy."""
    parts = PurePosixPath(name).parts
    return not any(part.startswith((".", "_")) for part in parts) and not name.lower().endswith(UNFINISHED)
