"""etl: turn a source, or the new files of a landing zone, into a validated, immutable dataset version."""

from __future__ import annotations

from prefect import flow

from configs.settings import DataSettings, EtlSettings, LandingSettings, StoreSettings, ValidationSettings
from flows.forms import with_form
from infra.pages import utc_day
from tasks.datasets import DatasetRef
from tasks.stages import add_landed_files, build_dataset, compact_dataset, publish_failure_artifact
from tasks.stages.endings import dated, ended, fails_with_a_sentence

__all__ = ["etl"]


@with_form("data.source", "data.local_path", "data.landing", "etl.engine", "store.url", hidden=("allow_refused", "now"))
@flow(name="etl", flow_run_name=dated("{data.dataset_name}"), on_failure=[publish_failure_artifact], log_prints=False)
@fails_with_a_sentence
def etl(
    data: DataSettings = DataSettings(),  # noqa: B008 - frozen, and the UI's form reads it
    validation: ValidationSettings = ValidationSettings(),  # noqa: B008
    store: StoreSettings = StoreSettings(),  # noqa: B008
    engine: EtlSettings = EtlSettings(),  # noqa: B008
    landing: LandingSettings = LandingSettings(),  # noqa: B008
    compact: bool = False,
    retry_quarantined: bool = False,
    allow_refused: bool = False,
    now: float | None = None,
) -> DatasetRef:
    """Ingest, validate and store one dataset version.

    With `data.landing`, new files are added to the previous version. Its parts are compacted if there are many.

    Args:
        data: Source of the events.
        validation: Limits of the validation.
        store: Store of the dataset.
        engine: Engine that processes the events.
        landing: Settings of the landing zone.
        compact: Compact the parts of the newest version in any case.
        retry_quarantined: Retry files that were quarantined as a whole or that have quarantined rows.
        allow_refused: Complete the run although no row of its new files is good. By default, it fails after recording them, so that
            the scheduler notices and no retraining starts that could not help.
        now: Time in UTC seconds at which landed files are read. By default this machine's time.
    """
    landed = None
    if data.landing is not None:
        landed = add_landed_files(data, validation, landing, engine, store, retry_quarantined, now)
    elif not compact:
        built = build_dataset(data, validation, store, engine)
        return ended("Built", _said(built), built, f"{built.name} {built.version}")
    dataset = compact_dataset(data, landing, engine, store, force=compact)
    if landed is not None and not allow_refused:
        landed.refuse()
    name = "Compacted" if landed is None else "Updated" if any(account.accepted for account in landed.accounts) else "Nothing new"
    return ended(name, _said(dataset), dataset, f"{dataset.name} {dataset.version}")


def _said(dataset: DatasetRef) -> str:
    return f"{dataset.rows:,} events of {dataset.users:,} users and {dataset.items:,} items until {utc_day(dataset.last)}."


if __name__ == "__main__":
    print(etl())
