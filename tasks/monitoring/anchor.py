"""Find the long-term anchor: the reference of a former champion, with which the newest events are compared too.

Each champion brings a reference of its own time. If champions follow each other every few weeks, a drift of one per cent a week is
never beyond the bound, although it adds up. Against the reference of half a year ago, it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.errors import NotFoundError, VersionCorruptError
from configs.settings import DriftSettings
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from tasks.datasets import load_dataset_ref
from tasks.monitoring.reference import Reference

__all__ = ["Anchor", "find_anchor"]

DAY_S = 86_400


@dataclass(frozen=True, eq=False)
class Anchor:
    """A former champion with its reference."""

    version: str
    reference: Reference


def find_anchor(store: Store, champion: ModelRef, until: int, settings: DriftSettings) -> Anchor | None:
    """Return the youngest former champion whose events end at least `drift.anchor_days` before `until`, or else the oldest one.

    None if there is no former champion that is still stored, or if `drift.anchor_days` is 0.

    Args:
        champion: The champion. Only champions before its promotion are former ones.
        until: UTC seconds that the champion's events reach.
    """
    if not settings.anchor_days:
        return None
    registry = ModelRegistry(store)
    reigns = [entry.version for entry in registry.history(champion.name)]
    place = len(reigns) - 1 - reigns[::-1].index(champion.version) if champion.version in reigns else len(reigns)
    former = [version for version in dict.fromkeys(reversed(reigns[:place])) if version != champion.version]
    oldest: ModelRef | None = None
    for version in former:  # from the youngest to the oldest
        try:
            ref = registry.version(champion.name, version)
            dataset = load_dataset_ref(store, *ref.dataset.split("/"))
        except (NotFoundError, VersionCorruptError):
            continue  # pruned
        reach = dataset.last if dataset.horizon is None else dataset.horizon
        if reach >= until:
            continue  # a rollback, or another training on the same events: nothing to compare
        oldest = ref
        if reach <= until - settings.anchor_days * DAY_S:
            break
    if oldest is None:
        return None
    try:
        with registry.fetched(oldest, "reference_*") as folder:
            return Anchor(oldest.version, Reference.load(folder))
    except (NotFoundError, VersionCorruptError):
        return None
