"""The stages of an incremental ETL run as Prefect tasks."""

from __future__ import annotations

import time

from prefect import task
from prefect.logging import get_run_logger

from configs.settings import DataSettings, EtlSettings, LandingSettings, StoreSettings, ValidationSettings
from infra.landing_zone import open_zone
from infra.storage import open_store
from tasks.datasets import DatasetRef
from tasks.landing import compact, land
from tasks.stages import artifacts
from tasks.stages.retrain import NETWORK

__all__ = ["add_landed_files", "compact_dataset"]


@task(name="add landed files", **NETWORK)
def add_landed_files(
    data: DataSettings,
    validation: ValidationSettings,
    landing: LandingSettings,
    engine: EtlSettings,
    store: StoreSettings,
    retry_quarantined: bool = False,
    now: float | None = None,
) -> DatasetRef:
    """Add the new files of the landing zone to the dataset, and show the account of each file.

    `now` is UTC seconds. The default is the clock of this machine.
    """
    log = get_run_logger()
    assert data.landing is not None
    zone = open_zone(data.landing, store)
    found = land(
        open_store(store), zone, data.dataset_name, validation, landing, engine, time.time() if now is None else now,
        retry_quarantined=retry_quarantined,
    )  # fmt: skip
    for account in found.accounts:
        log.info(
            "%s: %s rows = %s accepted + %s duplicates + %s quarantined%s",
            account.file,
            *(f"{count:,}" for count in (account.rows, account.accepted, account.duplicates, account.quarantined)),
            f"; quarantined as a whole: {account.why}" if account.why else "",
        )
    for file, why in found.waiting.items():
        log.warning("%s is left for a later run: %s", file, why)
    artifacts.show_landing(found)
    artifacts.show_dataset(found.dataset)
    log.info("dataset version %s/%s, %d new files", found.dataset.name, found.dataset.version, len(found.accounts))
    return found.dataset


@task(name="compact dataset", **NETWORK)
def compact_dataset(
    data: DataSettings, landing: LandingSettings, engine: EtlSettings, store: StoreSettings, force: bool = False
) -> DatasetRef:
    """Compact the dataset's parts into one if there are too many."""
    dataset = compact(open_store(store), data.dataset_name, landing, engine.work_dir, time.time(), force=force)
    get_run_logger().info("dataset version %s/%s", dataset.name, dataset.version)
    return dataset
