"""Settings of the engine that turns a source into a dataset version."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from configs.base import Settings

__all__ = ["EtlSettings"]


class EtlSettings(Settings):
    """Where and in what pieces events are read, merged and enriched. The result is the same whatever is set here."""

    engine: Literal["pandas", "dask"] = "pandas"
    """`pandas` works in this process, in pieces that fit memory; `dask` on the workers of a cluster (the extra `dask`)."""
    scheduler_address: str | None = None
    """Address of the cluster's scheduler, for example tcp://10.0.0.5:8786. Its workers must see the source and work_dir under
    the same paths, and have this package."""
    chunk_rows: int = Field(default=1_000_000, ge=1)
    """Rows of a file that are read and validated at once."""
    memory_rows: int = Field(default=2_000_000, ge=1)
    """Events that are sorted and enriched at once; a table of more is worked on in ranges of users, and of movies. One event
    takes about 500 bytes of memory meanwhile."""
    work_dir: Path = Path(".recsys/etl")
    """Folder of what does not fit memory while a version is made: about 150 bytes an event."""

    @model_validator(mode="after")
    def _a_cluster_has_an_address(self) -> EtlSettings:
        if self.engine == "dask" and not self.scheduler_address:
            raise ValueError(
                "engine is dask, and scheduler_address is not set: give the address of a Dask scheduler, or use pandas"
            )
        return self
