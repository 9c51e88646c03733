"""Settings of the engine that turns a source into a dataset version."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from configs.addresses import PublicAddress
from configs.base import Settings

__all__ = ["EtlSettings"]


class EtlSettings(Settings):
    """The engine that reads, merges and enriches events, and the size of its chunks. These settings do not affect the result."""

    engine: Literal["pandas", "dask"] = "pandas"
    """`pandas` runs in this process, in chunks that fit in memory. `dask` runs on the workers of a cluster (extra `dask`).
    Of a landing zone's new files, they parse and validate the rows."""
    scheduler_address: PublicAddress | None = None
    """Address of the Dask scheduler, for example tcp://10.0.0.5:8786. Required for `dask`. The workers need this package and must
    see the source and work_dir under the same paths."""
    chunk_rows: int = Field(default=1_000_000, ge=1)
    """Rows of a file that are read and validated at once."""
    memory_rows: int = Field(default=2_000_000, ge=1)
    """Events that are sorted and enriched at once. A larger table is processed in ranges of users and of items. Processing takes
    about 500 bytes of memory per event."""
    work_dir: Path = Path(".recsys/etl")
    """Folder for intermediate data that does not fit in memory, about 150 bytes per event."""

    @model_validator(mode="after")
    def _a_cluster_has_an_address(self) -> EtlSettings:
        if self.engine == "dask" and not self.scheduler_address:
            raise ValueError(
                "engine is dask, but scheduler_address is not set: give the address of a Dask scheduler, or use pandas"
            )
        return self
