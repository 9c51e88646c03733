"""export: write vectors, the best items of all users, and the model as a program, for other systems to read."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from configs.settings import EtlSettings, ExportSettings, RetrainSettings, StoreSettings
from flows.forms import with_form
from infra.leases import leased
from infra.storage import open_store
from tasks.datasets import chosen_dataset
from tasks.export import Exported, chosen_version
from tasks.stages import publish_failure_artifact
from tasks.stages.endings import dated, ended, fails_with_a_sentence
from tasks.stages.exports import write_export

__all__ = ["export"]

DEFAULTS = RetrainSettings()


@with_form("model_name", "export.to", "export.k", "export.seen", "store.url", first=("version", "dataset", "users"))
@flow(name="export", flow_run_name=dated("{model_name} {version}"), on_failure=[publish_failure_artifact])
@fails_with_a_sentence
def export(
    version: str = "champion",
    dataset: str | None = None,
    users: Path | None = None,
    model_name: str = DEFAULTS.model_name,
    export: ExportSettings = DEFAULTS.export,
    store: StoreSettings = DEFAULTS.store,
    etl: EtlSettings = DEFAULTS.etl,
) -> Exported:
    """Export a model version. A run that was killed goes on after its last complete file when it is started again.

    Args:
        version: The version, or the beginning of its name, by default the champion.
        dataset: Dataset version `name/version` with the users and their events, by default the newest of the dataset that the
            version was trained on.
        users: File with the id of one user in each line, in the team's ids. By default all users of the dataset.
        model_name: Name of the model.
        export: What is exported, and where to.
        store: Store of the version and the dataset.
        etl: The engine that computes the recommendations: this process, or a Dask cluster.
    """
    place = open_store(store)
    ref = chosen_version(place, model_name, version)
    trained_on = DEFAULTS.data.model_copy(update={"dataset": ref.dataset.partition("/")[0]})
    chosen = chosen_dataset(dataset, trained_on, store, model_name)
    with leased(place, f"an export of {model_name}", [ref.prefix, chosen.prefix]):
        found = write_export(ref, chosen, users, export, store, etl)
    said = f"{found.users:,} users and {found.items:,} items, in {found.files:,} files at {found.uri}"
    return ended("Exported", said, found, f"{model_name} {ref.version}")


if __name__ == "__main__":
    print(export())
