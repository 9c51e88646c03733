"""The log of a replay, in a store of its own. A killed replay resumes from it.

Each record is written once: the plan, one record per slice (sealed after its monitoring and live ranks, before any training), and
one record per training of a policy.
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
from infra.storage import Store, open_store
from tasks.replay.feed import Slice

__all__ = ["PolicyWatch", "ReplayLog", "ReplayPlan", "SliceRecord", "TrainingRecord"]


@dataclass(frozen=True)
class ReplayPlan:
    """The plan of a replay."""

    id: str
    source: str
    source_hashes: dict[str, str]
    slices: tuple[Slice, ...]  # the first is the base
    last_person: int  # users with greater ids are planted
    folder: str  # on this machine: holds the feed and the landing zone
    store: StoreSettings  # the replay's own
    settings: dict[str, Any]  # without credentials

    @property
    def feed(self) -> Path:
        return Path(self.folder) / "feed"

    @property
    def zone(self) -> Path:
        return Path(self.folder) / "landing"


@dataclass(frozen=True)
class PolicyWatch:
    """The monitoring result of one policy for a slice."""

    champion: str
    verdict: str
    drifted: list[str]
    reasons: list[str]
    causes: list[str] | None = None  # drifted checks that training again can help with; None in records of earlier versions
    decay: float | None = None  # relative loss of live NDCG@10 that chance does not explain
    unplanted: list[str] | None = None  # checks that drift in this slice without the planted shift too; None: not measured


@dataclass(frozen=True)
class SliceRecord:
    """A slice that was added to the dataset, monitored, and ranked by the champions of that time."""

    number: int
    dataset: str  # name/version
    content: str  # content id of the version: unchanged if nothing was added
    rows: int  # events in the dataset
    delivered: int  # rows that came in
    accepted: int
    duplicates: int
    quarantined: int
    policies: dict[str, PolicyWatch]  # empty for the base
    seconds: dict[str, float]


@dataclass(frozen=True)
class TrainingRecord:
    """A policy's training and its outcome."""

    policy: str
    slice: int
    why: str
    dataset: str
    version: str
    outcome: str  # promoted, held, needs approval
    reasons: list[str]
    champion: str | None  # after the training
    holdout_ndcg_at_10: float
    training_s: float  # of its epochs only
    seconds: float  # including evaluation, gate and publishing
    warm: bool = False  # whether it began with the champion's weights
    challenger_s: float | None = None  # of the challenger's epochs only; None in records of an earlier version
    learnt: int | None = None  # events that the challenger learnt, over all its epochs


class ReplayLog:
    """The records of one replay."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def of(cls, plan: ReplayPlan) -> ReplayLog:
        return cls(open_store(plan.store))

    def begin(self, plan: ReplayPlan) -> ReplayPlan:
        """Store the plan, or load the one that was stored before. Return it with this machine's folder."""
        content = asdict(replace(plan, folder="", store=StoreSettings()))
        del content["folder"], content["store"]
        with suppress(AlreadyExistsError):
            self.store.put_new("replay/plan.json", _json(content))
        kept = self._read("replay/plan.json")
        slices = tuple(Slice(**part) for part in kept.pop("slices"))
        return ReplayPlan(**{**kept, "slices": slices, "folder": plan.folder, "store": plan.store})

    def slice(self, number: int) -> SliceRecord | None:
        """Return the record of a slice, or None if the replay has not reached it."""
        try:
            found = self._read(_slice_key(number))
        except NotFoundError:
            return None
        watches = {name: PolicyWatch(**watch) for name, watch in found.pop("policies").items()}
        return SliceRecord(**found, policies=watches)

    def keep_slice(self, record: SliceRecord, ranks: pd.DataFrame | None) -> None:
        """Seal a slice.

        Args:
            ranks: user_id, target, and a column for each policy; None if there were no requests.
        """
        if ranks is not None:
            buffer = io.BytesIO()
            ranks.to_parquet(buffer, index=False)
            self.store.put(_ranks_key(record.number), buffer.getvalue())
        self._seal(_slice_key(record.number), _json(asdict(record)))

    def ranks(self, number: int) -> pd.DataFrame | None:
        """Return the ranks that `keep_slice` stored, or None if there are none."""
        try:
            return pd.read_parquet(io.BytesIO(self.store.get(_ranks_key(number))))
        except NotFoundError:
            return None

    def trainings(self) -> list[TrainingRecord]:
        """Return all trainings, sorted by slice and then by policy."""
        keys = [key for key in self.store.list("replay/trainings/") if key.endswith(".json")]
        return [TrainingRecord(**self._read(key)) for key in keys]

    def keep_training(self, record: TrainingRecord) -> None:
        """Seal a policy's training."""
        self._seal(f"replay/trainings/{record.slice:04d}-{record.policy}.json", _json(asdict(record)))

    def _seal(self, key: str, content: bytes) -> None:
        try:
            self.store.put_new(key, content)
        except AlreadyExistsError:
            if self.store.get(key) != content:  # an earlier attempt, whose response was lost, wrote the same
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
