"""monitor: have new events drifted from what the champion was trained on, and does it still rank them well?"""

from __future__ import annotations

from prefect import flow

from configs.settings import DataSettings, DriftSettings, MonitoringSettings, RetrainSettings, StoreSettings
from flows.datasets import chosen_dataset
from tasks.drift import DriftResult
from tasks.failure import show_failure
from tasks.stages import announce_drift, measure_drift

__all__ = ["monitor"]

DEFAULTS = RetrainSettings()


@flow(name="monitor", flow_run_name="{model_name}", on_failure=[show_failure])
def monitor(
    dataset: str | None = None,
    model_name: str = DEFAULTS.model_name,
    data: DataSettings = DEFAULTS.data,
    drift: DriftSettings = DEFAULTS.drift,
    store: StoreSettings = DEFAULTS.store,
    monitoring: MonitoringSettings = DEFAULTS.monitoring,
    since: int | None = None,
    now: int | None = None,
) -> DriftResult:
    """Measure drift and live quality on a dataset version `name/version`, by default the newest of the configured source.

    The slice begins at `since`, and lasts until `now` (both UTC seconds; see `tasks.monitoring`). A slice that drifted is announced
    as the event recsys.drift.detected.
    """
    chosen = chosen_dataset(dataset, data, store)
    result = measure_drift(chosen, model_name, drift, store, monitoring, since, now)
    announce_drift(result)
    return result


if __name__ == "__main__":
    print(monitor())
