"""What a replay has done so far, in a store of its own; a killed one goes on from there.

Each record is written once: the plan, one for each slice (sealed after its monitoring and live ranks, before anything is trained),
and one for each training of a policy.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from configs.errors import AlreadyExistsError, NotFoundError, VersionCorruptError
from configs.settings import StoreSettings
from infra.stores import Store, open_store
from tasks.replay_feed import Slice

__all__ = ["PolicyWatch", "ReplayLog", "ReplayPlan", "SliceRecord", "TrainingRecord"]


@dataclass(frozen=True)
class ReplayPlan:
    """What a replay is going to do."""

    id: str
    source: str
    source_hashes: dict[str, str]
    slices: tuple[Slice, ...]  # the first is the base
    last_person: int  # users with greater ids were planted
    folder: str  # of this machine: what is delivered, and the landing zone
    store: StoreSettings  # of the replay's own
    settings: dict[str, Any]  # without credentials

    @property
    def feed(self) -> Path:
        return Path(self.folder) / "feed"

    @property
    def zone(self) -> Path:
        return Path(self.folder) / "landing"


@dataclass(frozen=True)
class PolicyWatch:
    """What monitoring said of a slice to a policy."""

    champion: str
    verdict: str
    drifted: list[str]
    reasons: list[str]


@dataclass(frozen=True)
class SliceRecord:
    """A slice that was added to the dataset, watched, and ranked by the champions of that time."""

    number: int
    dataset: str  # name/version
    content: str  # of the version: equal where nothing was added
    rows: int  # events of the dataset
    delivered: int  # rows that came in
    accepted: int
    duplicates: int
    quarantined: int
    policies: dict[str, PolicyWatch]  # none in the base
    seconds: dict[str, float]


@dataclass(frozen=True)
class TrainingRecord:
    """A policy's training, and what became of it."""

    policy: str
    slice: int
    why: str
    dataset: str
    version: str
    outcome: str  # promoted, held, needs approval
    reasons: list[str]
    champion: str | None  # after it
    holdout_ndcg_at_10: float
    training_s: float  # of its epochs
    seconds: float  # with evaluation, gate and publishing


class ReplayLog:
    """The records of one replay."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def of(cls, plan: ReplayPlan) -> ReplayLog:
        return cls(open_store(plan.store))

    def begin(self, plan: ReplayPlan) -> ReplayPlan:
        """Keep the plan, or find the one that was kept before, with this machine's folder."""
        content = asdict(replace(plan, folder="", store=StoreSettings()))
        del content["folder"], content["store"]
        with suppress(AlreadyExistsError):
            self.store.put_new("replay/plan.json", _json(content))
        kept = self._read("replay/plan.json")
        slices = tuple(Slice(**part) for part in kept.pop("slices"))
        return ReplayPlan(**{**kept, "slices": slices, "folder": plan.folder, "store": plan.store})

    def slice(self, number: int) -> SliceRecord | None:
        """The record of a slice; None where it has not got so far."""
        try:
            found = self._read(_slice_key(number))
        except NotFoundError:
            return None
        watches = {name: PolicyWatch(**watch) for name, watch in found.pop("policies").items()}
        return SliceRecord(**found, policies=watches)

    def keep_slice(self, record: SliceRecord, ranks: pd.DataFrame | None) -> None:
        """Seal a slice. `ranks`: user_id, target, and a column for each policy; None where there was nobody to ask."""
        if ranks is not None:
            buffer = io.BytesIO()
            ranks.to_parquet(buffer, index=False)
            self.store.put(_ranks_key(record.number), buffer.getvalue())
        self._seal(_slice_key(record.number), _json(asdict(record)))

    def ranks(self, number: int) -> pd.DataFrame | None:
        """What `keep_slice` kept."""
        try:
            return pd.read_parquet(io.BytesIO(self.store.get(_ranks_key(number))))
        except NotFoundError:
            return None

    def trainings(self) -> list[TrainingRecord]:
        """All of them, by slice, and by policy within it."""
        keys = [key for key in self.store.list("replay/trainings/") if key.endswith(".json")]
        return [TrainingRecord(**self._read(key)) for key in keys]

    def keep_training(self, record: TrainingRecord) -> None:
        """Seal a policy's training."""
        self._seal(f"replay/trainings/{record.slice:04d}-{record.policy}.json", _json(asdict(record)))

    def _seal(self, key: str, content: bytes) -> None:
        try:
            self.store.put_new(key, content)
        except AlreadyExistsError:
            if self.store.get(key) != content:  # an attempt whose answer was lost has written the same
                raise

    def _read(self, key: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.store.get(key))
        except ValueError as error:
            raise VersionCorruptError(
                f"{self.store.uri(key)} cannot be read as JSON ({error}): it was changed after it was stored. Delete "
                f"{self.store.uri('')} and start the replay again."
            ) from error
        return found


def _slice_key(number: int) -> str:
    return f"replay/slices/{number:04d}.json"


def _ranks_key(number: int) -> str:
    return f"replay/slices/{number:04d}.ranks.parquet"


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()
