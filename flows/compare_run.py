"""compare-run: one run of a comparison, for comparisons that run as deployments."""

from __future__ import annotations

from prefect import flow

from configs.studies import CompareSettings
from infra.leases import leased
from infra.storage import open_store
from tasks.datasets import chosen_dataset
from tasks.stages import compare_entry

__all__ = ["compare_run"]


@flow(name="compare-run", flow_run_name="{entry} seed {seed}")
def compare_run(comparison: str, entry: str, seed: int, dataset: str, settings: CompareSettings) -> None:
    """Train `entry` with `seed` on the dataset version `name/version`. The result is passed through the store."""
    chosen = chosen_dataset(dataset, settings.data, settings.store)
    with leased(open_store(settings.store), f"a run of the comparison {comparison}", [chosen.prefix]):
        compare_entry(comparison, entry, seed, chosen, settings)
