"""Decides which version serves a user: experiments are defined in YAML and assigned by hash, without any state.

A user's place among all users and a user's arm within an experiment come from different hashes. The arms of one experiment are
therefore evenly mixed in every other experiment, and a user's arm in an earlier experiment does not predict the current one.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from configs.loading import read_settings_file, settings_in
from configs.serving import CHAMPION, Experiment, ExperimentFile, Exploration
from serving.watched_file import WatchedFile

__all__ = ["INTERLEAVED", "Assignment", "Experiments", "place_of"]

INTERLEAVED = "interleaved"  # arm of all users of an experiment that interleaves its arms

UserId = int | str


def place_of(salt: str, user: UserId) -> float:
    """Return the user's place in [0, 1), uniform over users and independent between salts."""
    digest = hashlib.sha256(f"{salt}\x00{user}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)  # 53 bits, so the result never rounds to 1


@dataclass(frozen=True)
class Assignment:
    """The version that serves a user: a version of the registry or `champion`."""

    version: str
    experiment: str | None = None
    arm: str | None = None
    revision: str | None = None  # of the experiment
    shadow: tuple[str, ...] = ()  # versions that also answer, but are not shown
    share: float = 1.0  # of the experiment's users who are in the arm
    against: str | None = None  # version that `version` is interleaved with
    teams: tuple[str, ...] = ()  # names of the arms of these two versions
    others: tuple[tuple[str, float], ...] = ()  # versions and shares of the other arms, if they answer for the propensities
    canary: bool = False  # if the champion is rolled out in stages: the new version serves the user

    def covers(self, version: str) -> bool:
        """Return whether an answer by `version` belongs to the arm.

        It does not if the champion stood in for a version that is not loaded.
        """
        return self.version == CHAMPION or version.startswith(self.version)


@dataclass(frozen=True)
class _Running:
    experiment: Experiment
    salt: str
    revision: str
    ends: tuple[float, ...]  # end of each arm's part of [0, 1]

    def arm_of(self, user: UserId) -> int:
        return bisect_right(self.ends, place_of(f"arm {self.salt}", user))

    def assignment(self, number: int, shadow: tuple[str, ...]) -> Assignment:
        """Return the assignment of users in an arm."""
        experiment = self.experiment
        if experiment.kind == "interleaving":
            one, other = experiment.arms
            teams = (one.name, other.name)
            return Assignment(
                one.version, experiment.name, INTERLEAVED, self.revision, shadow, against=other.version, teams=teams
            )
        arm, shares = experiment.arms[number], experiment.shares
        others: tuple[tuple[str, float], ...] = ()
        if experiment.propensities:
            others = tuple(
                (each.version, share)
                for place, (each, share) in enumerate(zip(experiment.arms, shares, strict=True))
                if place != number
            )
        return Assignment(arm.version, experiment.name, arm.name, self.revision, shadow, shares[number], others=others)


class Experiments:
    """The experiments of one file. Immutable; use `watch` to follow a file."""

    def __init__(self, file: ExperimentFile | None = None) -> None:
        self.file = file or ExperimentFile()
        self._running = [_compiled(experiment) for experiment in self.file.experiments if experiment.active]

    @classmethod
    def load(cls, path: Path) -> Experiments:
        """Load the experiments of a YAML file.

        Raises:
            SettingsError: If the file is invalid; names the file, the key and the value.
        """
        return cls(settings_in(ExperimentFile, read_settings_file(path), path))

    @classmethod
    def watch(cls, path: Path, *, settled_s: float = 1.0) -> WatchedFile[ExperimentFile, Experiments]:
        """Return a watched file. If it becomes invalid, the previous experiments stay active.

        Raises:
            SettingsError: If the file is invalid; names the file, the key and the value.
        """
        return WatchedFile(path, ExperimentFile, cls, settled_s=settled_s)

    @property
    def versions(self) -> frozenset[str]:
        """The versions that requests may need, to be loaded and warmed in advance. Does not include `champion`."""
        arms = {arm.version for each in self._running for arm in each.experiment.arms}
        return frozenset((arms | {shadow.version for shadow in self.file.shadow}) - {CHAMPION})

    def assign(self, user: UserId, now: int) -> Assignment:
        """Return the user's assignment at `now` (UTC seconds). It stays the same until the file or the active period changes."""
        shadow = tuple(
            each.version for each in self.file.shadow if each.share > 0 and place_of(f"shadow {each.version}", user) < each.share
        )
        if self._running:
            place = place_of("users", user)
            for running in self._running:
                experiment = running.experiment
                low, high = experiment.users
                # A place is always below 1, so a slice that ends at 1 leaves nobody out.
                if low <= place < high and experiment.during.holds(now):
                    return running.assignment(running.arm_of(user), shadow)
        return Assignment(CHAMPION, shadow=shadow)

    def exploring(self, user: UserId) -> Exploration | None:
        """Return the exploration that the user's lists are part of, if any."""
        found = self.file.exploration
        return found if found is not None and found.users[0] <= place_of("users", user) < found.users[1] else None


def _compiled(experiment: Experiment) -> _Running:
    # The last end is set to exactly 1, because the sum of the shares may fall short of it by rounding.
    ends = (*list(accumulate(experiment.shares))[:-1], 1.0)
    return _Running(experiment, experiment.salt or experiment.name, experiment.revision, ends)
