"""Which version of a rollout a user gets, by a hash that depends on the new version and on nothing else.

So every worker and every server agrees without asking, a restart changes nothing, and the users of one rollout are evenly mixed in
the next one and in every experiment. A user who has the new version at one stage has it at every later one.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.registry import Rollout
from serving.experiments import place_of

__all__ = ["CONTROLS", "Underway", "place_in"]

CONTROLS = 4
"""Users of the old version whose answers are measured, for each user of the new one. More would hardly narrow the comparison."""


def place_in(version: str, user: int | str) -> float:
    """Return the user's place in [0, 1) in the rollout of a version."""
    return place_of(f"rollout {version}", user)


@dataclass(frozen=True)
class Underway:
    """A rollout as a worker acts on it."""

    version: str  # the new one
    rollout: Rollout

    def is_new(self, user: int | str, now: float) -> bool:
        """Return whether the user gets the new version at `now` (UTC seconds)."""
        return place_in(self.version, user) < self.rollout.share_at(now)

    def is_measured(self, user: int | str) -> bool:
        """Return whether the user's answers are measured: with the new version, all; with the old one, of some users."""
        return place_in(self.version, user) < self.measured_share

    @property
    def measured_share(self) -> float:
        """Share of all users whose answers are measured."""
        return min(1.0, (1 + CONTROLS) * self.rollout.share)
