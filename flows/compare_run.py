"""compare-run: one run of a comparison, for comparisons that run as deployments."""

from __future__ import annotations

from prefect import flow

from configs.studies import CompareSettings
from flows.forms import with_form
from infra.leases import leased
from infra.storage import open_store
from tasks.datasets import chosen_dataset
from tasks.stages import compare_entry

__all__ = ["compare_run"]


@with_form("data.source", "store.url", first=("comparison", "entry", "seed", "dataset"))
@flow(name="compare-run", flow_run_name="{entry} seed {seed}")
def compare_run(comparison: str, entry: str, seed: int, dataset: str, settings: CompareSettings) -> None:
    """Train one entry of a comparison with one seed. The result is passed through the store.

    Args:
        comparison: Name of the comparison.
        entry: Name of the entry.
        seed: Seed of the training.
        dataset: Dataset version `name/version`.
        settings: Settings of the comparison.
    """
    chosen = chosen_dataset(dataset, settings.data, settings.store)
    with leased(open_store(settings.store), f"a run of the comparison {comparison}", [chosen.prefix]):
        compare_entry(comparison, entry, seed, chosen, settings)
