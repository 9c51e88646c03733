"""Execute each run of a comparison in a separate process.

Torch's random numbers and threads belong to the process. Runs that shared one could neither be reproduced nor timed on their own.
"""

from __future__ import annotations

from configs.cores import threads_of_each
from configs.kinds import place_of
from configs.studies import CompareSettings, EntrySettings
from infra.storage import open_store
from models.loading import placement_of
from models.plugins import blamed
from models.recommender import OnEpoch
from tasks.comparison.runs import run_entry
from tasks.datasets import DatasetRef
from tasks.training import run_apart

__all__ = ["run_entry_apart"]


def run_entry_apart(
    comparison: str, entry: EntrySettings, seed: int, dataset: DatasetRef, settings: CompareSettings, on_epoch: OnEpoch
) -> None:
    """Call `comparison.run_entry` in a separate process, or in one process per replica of the entry.

    Raises the same product errors as `run_entry`. Any other exception there is raised as a RuntimeError with its traceback.
    """
    placement = placement_of(entry.kind, entry.models)
    run_apart(
        _run_entry,
        comparison,
        entry,
        seed,
        dataset,
        settings,
        trains=f"{entry.name} with seed {seed}",
        on_epoch=on_epoch,
        threads=max(1, (settings.threads or _share_of_cores(settings)) // placement.replicas),
        if_killed="Lower max_parallel or the model's batch.",
        placement=placement,
        silence_s=entry.models.plugin_silence_s if place_of(entry.kind) is not None else None,
    )


def _run_entry(
    comparison: str, entry: EntrySettings, seed: int, dataset: DatasetRef, settings: CompareSettings, on_epoch: OnEpoch | None
) -> None:
    with blamed(entry.kind, "training"):
        run_entry(open_store(settings.store), comparison, entry, seed, dataset, settings, on_epoch)


def _share_of_cores(settings: CompareSettings) -> int:
    """Threads per run. The runs on one machine share its cores."""
    together = 1 if settings.runner == "deployments" or settings.dask_address else settings.max_parallel
    return threads_of_each(together)
