"""Which version a user is served with: experiments in YAML, assigned by hash, without any state.

A user's place among all users and a user's arm within an experiment come from different hashes, so that the arms of one
experiment are evenly mixed in every other, and who was in an arm before says nothing about who is in which arm now.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from configs.experiments import CHAMPION, Experiment, ExperimentFile
from serving.watched_file import WatchedFile

__all__ = ["Assignment", "Experiments", "place_of"]

UserId = int | str


def place_of(salt: str, user: UserId) -> float:
    """The user's place in [0, 1): uniform over users, and independent between salts."""
    digest = hashlib.sha256(f"{salt}\x00{user}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)  # 53 bits: the nearest float is never 1


@dataclass(frozen=True)
class Assignment:
    """What a user is served with. `version` is a version of the registry or `champion`."""

    version: str
    experiment: str | None = None
    arm: str | None = None
    revision: str | None = None  # of the experiment
    shadow: tuple[str, ...] = ()  # versions that answer beside it, unseen


@dataclass(frozen=True)
class _Running:
    experiment: Experiment
    salt: str
    revision: str
    ends: tuple[float, ...]  # of each arm's part of [0, 1]

    def arm_of(self, user: UserId) -> int:
        return bisect_right(self.ends, place_of(f"arm {self.salt}", user))


class Experiments:
    """The experiments of one file. Immutable; `watch` follows a file."""

    def __init__(self, file: ExperimentFile | None = None) -> None:
        self.file = file or ExperimentFile()
        self._running = [_compiled(experiment) for experiment in self.file.experiments if experiment.active]

    @classmethod
    def load(cls, path: Path) -> Experiments:
        """Raises SettingsError naming the file, the key and the value."""
        return cls.watch(path).current()

    @classmethod
    def watch(cls, path: Path, *, every_s: float = 1.0) -> WatchedFile[ExperimentFile, Experiments]:
        """The file, read anew when it changes."""
        return WatchedFile(path, ExperimentFile, cls, every_s=every_s)

    @property
    def versions(self) -> frozenset[str]:
        """Versions that requests may need: those to be loaded and warmed before they are asked for. Without `champion`."""
        arms = {arm.version for each in self._running for arm in each.experiment.arms}
        return frozenset((arms | {shadow.version for shadow in self.file.shadow}) - {CHAMPION})

    def assign(self, user: UserId, now: int) -> Assignment:
        """What the user is served with at `now`, UTC seconds: always the same while the file and its periods say the same."""
        shadow = tuple(
            each.version for each in self.file.shadow if each.share > 0 and place_of(f"shadow {each.version}", user) < each.share
        )
        if self._running:
            place = place_of("users", user)
            for running in self._running:
                experiment = running.experiment
                low, high = experiment.users
                # A place is below 1, so a slice that ends at 1 holds them all.
                if low <= place < high and experiment.during.holds(now):
                    arm = experiment.arms[running.arm_of(user)]
                    return Assignment(arm.version, experiment.name, arm.name, running.revision, shadow)
        return Assignment(CHAMPION, shadow=shadow)


def _compiled(experiment: Experiment) -> _Running:
    # The last end is 1 by name: a sum of shares may fall short of it by rounding.
    ends = (*list(accumulate(experiment.shares))[:-1], 1.0)
    return _Running(experiment, experiment.salt or experiment.name, experiment.revision, ends)
