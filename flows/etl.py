"""etl: a source becomes a validated, immutable dataset version."""

from __future__ import annotations

from prefect import flow

from configs.settings import DataSettings, StoreSettings, ValidationSettings
from tasks.datasets import DatasetRef
from tasks.stages import build_dataset

__all__ = ["etl"]


@flow(name="etl", log_prints=False)
def etl(
    data: DataSettings = DataSettings(),  # noqa: B008 - frozen, and the UI's form reads it
    validation: ValidationSettings = ValidationSettings(),  # noqa: B008
    store: StoreSettings = StoreSettings(),  # noqa: B008
) -> DatasetRef:
    """Ingest, validate and store one dataset version."""
    return build_dataset(data, validation, store)


if __name__ == "__main__":
    print(etl())
