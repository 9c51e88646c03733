"""What is known about a model and its data: when it was last trained, what its trainings cost, and whether its quality falls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from configs.clock import wall_clock
from configs.errors import NotFoundError, VersionCorruptError
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from tasks.datasets import DatasetRef, load_dataset_ref
from tasks.monitoring import LIVE, DriftResult
from tasks.retraining.answer import Position
from tasks.retraining.policies import Facts, Standing, period_start
from tasks.training import reach_of

__all__ = ["Look", "decay_of", "facts_of", "position_of"]

Clock = Literal["events", "wall"]
MOST_READ = 50  # versions of earlier months among which the cost of the last rented machine is looked for


@dataclass(frozen=True)
class Look:
    """When monitoring looks, and by which clock times are told."""

    clock: Clock
    at: int  # UTC seconds

    @classmethod
    def at_dataset(cls, dataset: DatasetRef, clock: Clock, now: int | None = None) -> Look:
        """Return the look at a dataset version. By the clock `events`, its time is the one that the events reach."""
        if now is None:
            now = int(wall_clock()) if clock == "wall" else reach_of(dataset)
        return cls(clock, now)


def facts_of(dataset: DatasetRef, look: Look, drift: DriftResult) -> Facts:
    """Return what is known about the newest dataset version.

    Args:
        dataset: The version.
        look: When monitoring looks.
        drift: What monitoring has found.
    """
    drifted = drift.verdict == "drifted" and drift.causes != []
    return Facts(look.at, dataset.rows, _content(dataset.version), drifted=drifted, decay=decay_of(drift))


def decay_of(drift: DriftResult) -> float | None:
    """Return the relative loss of live NDCG@10, or None if it was not judged or if chance explains it."""
    for check in drift.checks:
        if check.name == LIVE and check.effect is not None and check.adjusted_p is not None and check.adjusted_p <= drift.alpha:
            return check.effect
    return None


def position_of(store: Store, model_name: str, look: Look) -> Position:
    """Return where a model stands.

    By the clock `events`, a training has the time that its events reach, otherwise the time at which its version was made.

    Raises:
        VersionCorruptError: The promotion log or the champion is damaged.
        NotFoundError: The champion no longer exists.
    """
    registry = ModelRegistry(store)
    current = registry.champion_ref(model_name)
    champion_at = None if current is None else _standing(store, current[0], look.clock).at
    month = period_start(look.at, "month")
    last: Standing | None = None
    spent, newest_cost, seen = 0.0, None, 0
    for version in reversed(registry.version_names(model_name)):
        try:
            ref = registry.version(model_name, version)
            cost = registry.manifest(model_name, version)["lineage"]["cost"]
        except VersionCorruptError:  # other commands report it; its training is not counted
            continue
        last, seen = last or _standing(store, ref, look.clock), seen + 1
        if newest_cost is None and cost is not None:
            newest_cost = float(cost)
        if _made_at(ref) >= month:
            spent += float(cost or 0.0)
        elif newest_cost is not None or seen >= MOST_READ:
            break
    return Position(last, champion_at, spent, newest_cost or 0.0)


def _standing(store: Store, ref: ModelRef, clock: Clock) -> Standing:
    name, _, version = ref.dataset.partition("/")
    try:
        dataset: DatasetRef | None = load_dataset_ref(store, name, version)
    except NotFoundError:
        dataset = None
    at = reach_of(dataset) if clock == "events" and dataset is not None else _made_at(ref)
    return Standing(at, dataset.rows if dataset is not None else None, _content(version))


def _made_at(ref: ModelRef) -> int:
    return int(datetime.fromisoformat(ref.created).timestamp())


def _content(version: str) -> str:
    """Return the content id of a dataset version, which versions of the same events in other parts share."""
    return version.partition("-")[0]
