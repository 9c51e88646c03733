"""monitor: has the newest slice of events drifted from what the champion was trained on?"""

from __future__ import annotations

from prefect import flow

from configs.settings import DataSettings, DriftSettings, RetrainSettings, StoreSettings
from flows.datasets import chosen_dataset
from tasks.drift import DriftResult
from tasks.stages import measure_drift

__all__ = ["monitor"]

DEFAULTS = RetrainSettings()


@flow(name="monitor")
def monitor(
    dataset: str | None = None,
    model_name: str = DEFAULTS.model_name,
    data: DataSettings = DEFAULTS.data,
    drift: DriftSettings = DEFAULTS.drift,
    store: StoreSettings = DEFAULTS.store,
) -> DriftResult:
    """Measure drift of a dataset version `name/version`, by default the newest of the configured source."""
    return measure_drift(chosen_dataset(dataset, data, store), model_name, drift, store)


if __name__ == "__main__":
    print(monitor())
