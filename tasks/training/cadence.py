"""Two cadences: which trainings begin with the champion's weights, which from scratch, and what each kind of them cost.

Retrainings, the replay of past events and monitoring ask the same rule, `next_start`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from configs.errors import NotFoundError, VersionCorruptError
from configs.training_place import TrainingPlaceSettings
from infra.registry import ModelRef, ModelRegistry, StagedVersion, read_json
from infra.storage import Store
from tasks.datasets import DatasetRef, load_dataset_ref

__all__ = [
    "Began",
    "Earlier",
    "Past",
    "Start",
    "Warm",
    "began_of_version",
    "learnt_of_version",
    "next_start",
    "past_of",
    "reach_of",
    "warm_of_version",
]

DAY_S = 86_400
MOST_READ = 100  # versions in which the newest training of each kind is looked for


@dataclass(frozen=True)
class Warm:
    """How warm a training was."""

    parent: str  # the version whose weights it began with
    generation: int  # warm starts since the weights were last trained from scratch, this one included
    new_users: int  # users of the train part with events that the parent has not learnt
    old_users: int  # others that were learnt again
    events: int  # of these users
    all_events: int  # of the train part


@dataclass(frozen=True)
class Earlier:
    """An earlier training, promoted or held."""

    version: str
    at: int  # UTC seconds that its events reach
    seconds: float  # of the challenger's training
    usd: float | None  # for rented machines; None if nothing was rented


@dataclass(frozen=True)
class Past:
    """The newest trainings of a model."""

    warm_starts: int = 0  # in a row, up to the newest training
    scratch: Earlier | None = None  # the newest from scratch
    warm: Earlier | None = None  # the newest that began with a champion's weights


@dataclass(frozen=True)
class Start:
    """How a training is to begin."""

    warm: bool
    why: str  # a clause without a full stop


@dataclass(frozen=True)
class Began:
    """How the challenger's training began and how long it took, beside the newest earlier one that began otherwise."""

    warm: Warm | None  # None: from scratch
    seconds: float
    other: Earlier | None = field(default=None)
    why: str = ""  # it was from scratch, as a clause; empty for a warm start, and where a record does not say


def next_start(place: TrainingPlaceSettings, past: Past, at: int) -> Start:
    """Decide by the two cadences how the next training begins. Whether the champion can be begun with is another question.

    Args:
        place: The settings `training`.
        past: The trainings of the model.
        at: UTC seconds that the events reach which would be trained on.
    """
    if not place.warm_start:
        return Start(False, "training.warm_start is off")
    if past.warm_starts + 1 >= place.full_every:
        told = "each training is" if place.full_every == 1 else f"one of {place.full_every} trainings is"
        return Start(False, f"{told} from scratch (training.full_every)")
    if place.full_days is not None and past.scratch is not None and at - past.scratch.at >= place.full_days * DAY_S:
        days = (at - past.scratch.at) / DAY_S
        return Start(False, f"the last training from scratch was {days:.1f} days ago (training.full_days: {place.full_days:g})")
    return Start(True, f"{past.warm_starts} of at most {place.full_every - 1} warm starts in a row have been made")


def past_of(store: Store, model_name: str, before: str | None = None) -> Past:
    """Return the newest trainings of a model, promoted or held.

    Args:
        store: The store of the model.
        model_name: Its name.
        before: Only versions older than this one count. None: all do.
    """
    registry = ModelRegistry(store)
    names = [name for name in registry.version_names(model_name) if before is None or name < before]
    warm_starts, newest = 0, dict[bool, Earlier]()
    for name in reversed(names[-MOST_READ:]):
        try:
            ref = registry.version(model_name, name)
            training = _training(store, ref, ref.kind)
            cost = registry.manifest(model_name, name)["lineage"]["cost"]
        except VersionCorruptError:  # other commands report it; its training is not counted
            continue
        if training is None:
            continue
        warm, seconds, _ = training
        if warm is not None and False not in newest:
            warm_starts += 1
        if (warm is not None) not in newest:
            newest[warm is not None] = Earlier(name, _reach(store, ref), seconds, cost)
        if len(newest) == 2:
            break
    return Past(warm_starts, newest.get(False), newest.get(True))


def warm_of_version(store: Store, version: ModelRef | StagedVersion, kind: str) -> Warm | None:
    """Return how warm the training of a version was, or None if it was from scratch. `kind` is the kind of its model.

    Raises:
        VersionCorruptError: The version's record is damaged.
    """
    found = _training(store, version, kind)
    return None if found is None else found[0]


def learnt_of_version(store: Store, version: ModelRef | StagedVersion, kind: str) -> int | None:
    """Return how many events the training of a version learnt, over all its epochs, or None if the version has no record of it.

    Raises:
        VersionCorruptError: The version's record is damaged.
    """
    run = _record(store, version, kind)
    try:
        return None if run is None else int(run.get("events", 0)) * len(run["epochs"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(version, error) from error


def began_of_version(store: Store, version: ModelRef | StagedVersion, kind: str, place: TrainingPlaceSettings) -> Began | None:
    """Return how the training of a version began, or None if the settings know no warm starts and it was from scratch.

    Args:
        store: The store of the version.
        version: The version.
        kind: Kind of its model.
        place: The settings `training` of its run.

    Raises:
        VersionCorruptError: The version's record is damaged.
    """
    found = _training(store, version, kind)
    if found is None or (found[0] is None and not place.warm_start):
        return None
    warm, seconds, why = found
    past = past_of(store, version.name, before=version.version)
    return Began(warm, seconds, past.warm if warm is None else past.scratch, why)


def reach_of(dataset: DatasetRef) -> int:
    """Return the UTC seconds that the events of a dataset version reach."""
    return dataset.last if dataset.horizon is None else dataset.horizon


def _training(store: Store, version: ModelRef | StagedVersion, kind: str) -> tuple[Warm | None, float, str] | None:
    """Return how warm a version's training was, its seconds, and why it was from scratch, or None if the version has no record of it."""
    run = _record(store, version, kind)
    if run is None:
        return None
    try:
        found = run.get("warm")
        return None if found is None else Warm(**found), float(run["seconds"]), str(run.get("from_scratch", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(version, error) from error


def _record(store: Store, version: ModelRef | StagedVersion, kind: str) -> dict[str, Any] | None:
    content = ModelRegistry(store).read_file(version, "evaluation.json")
    if content is None:
        return None
    record: Any = read_json(content, f"evaluation.json of the version {version.version}")
    try:
        run = record["training"][kind]
    except (KeyError, TypeError) as error:
        raise _unreadable(version, error) from error
    if not isinstance(run, dict):
        raise _unreadable(version, TypeError(f"training.{kind} is not an object"))
    return run


def _unreadable(version: ModelRef | StagedVersion, error: Exception) -> VersionCorruptError:
    return VersionCorruptError(f"evaluation.json of the version {version.version} cannot be read ({error!r}).")


def _reach(store: Store, ref: ModelRef) -> int:
    name, _, version = ref.dataset.partition("/")
    try:
        return reach_of(load_dataset_ref(store, name, version))
    except NotFoundError:
        return int(datetime.fromisoformat(ref.created).timestamp())
