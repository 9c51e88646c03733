"""Where the events come from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from configs.addresses import PublicAddress
from configs.base import Settings

__all__ = ["DataSettings", "SourceName"]

SourceName = Literal["ml-100k", "ml-1m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest"]


class DataSettings(Settings):
    """Source of the events."""

    source: SourceName = "ml-100k"
    """MovieLens release. ml-100k needs no download: it is read from the files that recbole ships."""
    dataset: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """Name of the dataset that versions are stored under. If empty, the name of the source is used."""
    local_path: Path | None = None
    """A zip, a folder, or a file of events to read instead of downloading. All event files of a folder are read together, by the
    same rules as those of a landing zone. If empty, the release is downloaded."""
    landing: str | None = None
    """Landing zone: a folder or s3://<bucket>/<prefix> for new files of events, movies and users. If set, each file is added once
    to the existing dataset, if there is one (see `landing`). If empty, the dataset is built from the source."""
    mirror_url: PublicAddress = "https://files.grouplens.org/datasets/movielens"
    """Base URL of `<source>.zip`."""
    checksum: str | None = None
    """Expected digest of the zip, as `md5:<hex>` or `sha256:<hex>`. If empty, the published digest is used if it is known."""
    cache_dir: Path = Path(".recsys/downloads")
    """Folder for downloads. An interrupted download resumes from it, and a second run does not download again."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds without a byte received after which a download is retried."""
    retries: int = Field(default=4, ge=0)
    """Number of times that an interrupted download is resumed before the run fails."""

    @property
    def dataset_name(self) -> str:
        """Name of the dataset: `dataset`, or the source if it is empty."""
        return self.dataset or self.source
