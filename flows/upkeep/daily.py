"""housekeeping: delete what is old, and send the message whose absence alarms somebody."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from configs.settings import ExportSettings, LandingSettings, RetentionSettings, RetrainSettings, StoreSettings
from flows.forms import with_form
from tasks.stages import publish_failure_artifact
from tasks.stages.endings import dated, ended, fails_with_a_sentence
from tasks.stages.housekeeping import delete_old, show_life

__all__ = ["housekeeping"]

DEFAULTS = RetrainSettings()


@with_form("model_name", "retention.automatic", "retention.keep_days", "retention.keep_versions", "store.url")
@flow(name="housekeeping", flow_run_name=dated("{model_name}"), on_failure=[publish_failure_artifact])
@fails_with_a_sentence
def housekeeping(
    model_name: str = DEFAULTS.model_name,
    retention: RetentionSettings = DEFAULTS.retention,
    landing: LandingSettings = DEFAULTS.landing,
    export: ExportSettings = DEFAULTS.export,
    store: StoreSettings = DEFAULTS.store,
    work_dir: Path = DEFAULTS.work_dir,
) -> str:
    """Delete what `retention` does not keep, if it is automatic, and show that the whole way from schedule to message works.

    Args:
        model_name: Name of the model that the daily message is about.
        retention: How much is kept, and whether the rest is deleted.
        landing: Has the number of dataset versions that are kept.
        export: Where exports are.
        store: The store.
        work_dir: Folder with local run folders.
    """
    plan = delete_old(retention, landing, export, store, work_dir)
    said = show_life(model_name, store, plan)
    return ended("Deleted" if retention.automatic else "Looked", said, said)


if __name__ == "__main__":
    print(housekeeping())
