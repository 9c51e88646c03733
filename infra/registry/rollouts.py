"""What an entry of the promotion log says beside the champion: how far it is rolled out, and whether the model is frozen.

Each entry carries both in full. Whoever reads the newest entry therefore knows which version serves whom, without any other record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Freeze", "Rollout"]


@dataclass(frozen=True)
class Freeze:
    """Nothing is promoted and nothing rolls out until the model is thawed."""

    reason: str
    who: str
    when: str  # UTC, ISO 8601


@dataclass(frozen=True)
class Rollout:
    """How the entry's version takes over from the one that served everybody before."""

    old: str  # the version that serves the other users
    manifest: str  # sha256 of its manifest
    stages: tuple[float, ...]  # share of the users at each stage; the last is 1
    stage: int  # number of the current stage, from 0
    since: int  # UTC seconds at which servers begin to act on the stage
    entry: int  # number of the log entry that began the stage
    settings: dict[str, Any] = field(default_factory=dict)  # of the section `rollout`, for whoever watches it

    @property
    def share(self) -> float:
        """Share of the users that the new version serves once the stage has begun."""
        return self.stages[self.stage]

    @property
    def complete(self) -> bool:
        """Whether the last stage has been reached: the new version serves everybody."""
        return self.stage == len(self.stages) - 1

    def is_over(self, now: float) -> bool:
        """Return whether the new version serves everybody at a time in UTC seconds."""
        return self.complete and now >= self.since

    def share_at(self, now: float) -> float:
        """Return the share of the users that the new version serves at a time in UTC seconds.

        All servers change over at the same time, `since`. So a user does not go to and fro between servers that read the log at
        different times.
        """
        if now >= self.since:
            return self.share
        return self.stages[self.stage - 1] if self.stage else 0.0
