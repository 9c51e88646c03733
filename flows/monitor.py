"""monitor: check whether new events have drifted, how well the champion ranks them, and whether it is time to retrain."""

from __future__ import annotations

from prefect import flow

from configs.settings import DataSettings, DriftSettings, DueSettings, MonitoringSettings, RetrainSettings, StoreSettings
from configs.training_place import TrainingPlaceSettings
from flows.forms import with_form
from infra.leases import leased
from infra.storage import open_store
from tasks.datasets import chosen_dataset
from tasks.monitoring import DriftResult
from tasks.outcome import drift_answer
from tasks.retraining import Look
from tasks.stages import announce_drift, decide_retraining, measure_drift, publish_failure_artifact
from tasks.stages.endings import dated, ended, fails_with_a_sentence

__all__ = ["monitor"]

DEFAULTS = RetrainSettings()


@with_form(
    "model_name",
    "data.source",
    "drift.slice_share",
    "monitoring.live_requests",
    "monitoring.clock",
    "store.url",
    first=("dataset",),
    hidden=("since", "now"),
)
@flow(name="monitor", flow_run_name=dated("{model_name}"), on_failure=[publish_failure_artifact])
@fails_with_a_sentence
def monitor(
    dataset: str | None = None,
    model_name: str = DEFAULTS.model_name,
    data: DataSettings = DEFAULTS.data,
    drift: DriftSettings = DEFAULTS.drift,
    store: StoreSettings = DEFAULTS.store,
    monitoring: MonitoringSettings = DEFAULTS.monitoring,
    when: DueSettings = DEFAULTS.when,
    training: TrainingPlaceSettings = DEFAULTS.training,
    since: int | None = None,
    now: int | None = None,
) -> DriftResult:
    """Measure drift and live quality on a dataset version `name/version`, by default the newest of the configured source.

    If the newest slice has drifted, the event recsys.drift.detected is emitted, or recsys.drift.without_data if the champion was
    trained on the same data. If a retraining is due, the event recsys.retraining.due is emitted, and an automation starts it.

    Args:
        dataset: Dataset version `name/version`, by default the newest of the configured source.
        model_name: Name of the model whose champion is monitored.
        data: Source of the dataset.
        drift: Settings of the drift checks.
        store: Store of the dataset and the champion.
        monitoring: Settings of live quality and of the reports.
        when: When a retraining is due.
        training: How a retraining begins: warm or from scratch.
        since: Start of the slice in UTC seconds (see `tasks.monitoring.run`).
        now: End of the slice in UTC seconds (see `tasks.monitoring.run`).
    """
    chosen = chosen_dataset(dataset, data, store, model_name)
    with leased(open_store(store), f"a monitoring of {model_name}", [chosen.prefix]):
        result = measure_drift(chosen, model_name, drift, store, monitoring, (since, now), data.nouns).result
        said = drift_answer(result)
        if since is None:  # a slice that was asked for is of the past, and says nothing about today
            look = Look.at_dataset(chosen, monitoring.clock, now)
            said = f"{said} {decide_retraining(chosen, result, look, when, store, training).answer.message}"
    announce_drift(result, store)
    return ended(result.verdict.capitalize(), said, result)


if __name__ == "__main__":
    print(monitor())
