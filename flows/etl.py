"""etl: a source, or what has arrived in a landing zone, becomes a validated, immutable dataset version."""

from __future__ import annotations

from prefect import flow

from configs.etl import EtlSettings
from configs.landing import LandingSettings
from configs.settings import DataSettings, StoreSettings, ValidationSettings
from tasks.datasets import DatasetRef
from tasks.failure import show_failure
from tasks.landing_stages import add_landed_files, compact_dataset
from tasks.stages import build_dataset

__all__ = ["etl"]


@flow(name="etl", flow_run_name="{data.dataset_name}", on_failure=[show_failure], log_prints=False)
def etl(
    data: DataSettings = DataSettings(),  # noqa: B008 - frozen, and the UI's form reads it
    validation: ValidationSettings = ValidationSettings(),  # noqa: B008
    store: StoreSettings = StoreSettings(),  # noqa: B008
    engine: EtlSettings = EtlSettings(),  # noqa: B008
    landing: LandingSettings = LandingSettings(),  # noqa: B008
    compact: bool = False,
    retry_quarantined: bool = False,
    now: float | None = None,
) -> DatasetRef:
    """Ingest, validate and store one dataset version. With `data.landing`, new files are added to the version before, whose parts are
    compacted when they have become many, or with `compact`. `now` (UTC seconds) is the time that landed files are read at, by
    default this machine's."""
    if data.landing is not None:
        add_landed_files(data, validation, landing, engine, store, retry_quarantined, now)
    elif not compact:
        return build_dataset(data, validation, store, engine)
    return compact_dataset(data, landing, engine, store, force=compact)


if __name__ == "__main__":
    print(etl())
