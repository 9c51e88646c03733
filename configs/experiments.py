"""Experiments on live traffic: the YAML file that serving reads again whenever it changes, and how a report judges one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.base import Settings, Share
from configs.period import Period, meet

__all__ = ["CHAMPION", "AnalysisSettings", "Arm", "Experiment", "ExperimentFile", "ExposureSettings", "Shadow"]

CHAMPION = "champion"  # as a version: whatever the promotion log names
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Arm(Settings):
    """What some users of an experiment are served with."""

    name: Name
    version: str = CHAMPION
    """A version of the registry, or `champion`."""
    share: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Part of the experiment's users, beside the other arms' shares."""


class AnalysisSettings(Settings):
    """How `recsys experiment report` judges an experiment. Choose before it starts."""

    outcome: Literal["conversion", "value"] = "conversion"
    """`conversion`: whether a user had any outcome; `value`: the sum of a user's outcome values."""
    attribution: Literal["shown", "any"] = "shown"
    """`shown`: only outcomes on films that the user was shown before; `any`: all of the user's outcomes."""
    horizon_s: int = Field(default=7 * 86_400, ge=1)
    """Seconds after a user's first exposure in which outcomes count. A user enters the report when they have passed."""
    window_s: int = Field(default=86_400, ge=1)
    """Seconds after an exposure in which an outcome is joined to it."""
    value_cap: float | None = Field(default=None, gt=0)
    """Greatest value of one user with `value`: one heavy user must not decide."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Level of all comparisons of the experiment together, over all looks (Bonferroni over arms)."""
    tuned_users: int = Field(default=10_000, ge=1)
    """Number of users at which the intervals are to be tightest: about as many as the experiment will have."""
    min_users: int = Field(default=200, ge=2)
    """Users of each arm before the first look; the sequential test is asymptotic."""
    min_join_rate: Share = 0.95
    """Least share of outcomes that find their exposure."""
    mismatch_alpha: float = Field(default=0.001, gt=0, lt=1)
    """p-value of the sample ratio below which users were lost or assigned wrongly."""
    max_crossed_share: Share = 0.01
    """Greatest share of users that may have seen more than one arm; they are left out."""
    min_main_version: Share = 0.95
    """Least share of an arm's answers that one version gave: a promotion or a fallback amid an experiment makes it another."""


class Experiment(Settings):
    """Users of one slice of the traffic, divided among arms for good. The first arm is the control."""

    name: Name
    arms: tuple[Arm, ...] = Field(min_length=2)
    users: tuple[Share, Share] = (0.0, 1.0)
    """Slice of the users, from and to: a user has one place between 0 and 1, the same for all experiments. Slices of experiments
    that may run at one time must not overlap, so nobody is in two of them."""
    during: Period = Period()
    active: bool = True
    salt: str = ""
    """Decides who is in which arm, with the user's id; the experiment's name where empty."""
    analysis: AnalysisSettings = AnalysisSettings()

    @property
    def revision(self) -> str:
        """8 hex digits of all that decides who gets what: exposures of another revision are another experiment's."""
        assigned = [self.salt or self.name, *[[arm.name, arm.version, arm.share] for arm in self.arms]]
        return hashlib.sha256(json.dumps(assigned).encode()).hexdigest()[:8]

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the arms, which add up to 1."""
        total = sum(arm.share for arm in self.arms)
        return tuple(arm.share / total for arm in self.arms)

    @model_validator(mode="after")
    def _is_a_comparison(self) -> Experiment:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name} has two arms of one name: {', '.join(names)}")
        if self.users[0] >= self.users[1]:
            raise ValueError(f"users of {self.name} go from {self.users[0]:g} to {self.users[1]:g}: nobody is between")
        return self


class Shadow(Settings):
    """A version that answers beside the one that is shown; its answers are logged and shown to nobody."""

    version: str
    share: Share = 1.0
    """Part of the users whose requests it answers too."""


class ExperimentFile(Settings):
    """The whole file."""

    experiments: tuple[Experiment, ...] = ()
    shadow: tuple[Shadow, ...] = ()

    @model_validator(mode="after")
    def _nobody_is_in_two(self) -> ExperimentFile:
        names = [experiment.name for experiment in self.experiments]
        if len(set(names)) < len(names):
            raise ValueError(f"two experiments have one name: {', '.join(names)}")
        running = [experiment for experiment in self.experiments if experiment.active]
        for place, one in enumerate(running):
            for other in running[place + 1 :]:
                if _overlap(one.users, other.users) and meet(one.during, other.during):
                    raise ValueError(
                        f"{one.name} and {other.name} may run at one time and share users ({one.users[0]:g} to {one.users[1]:g} and "
                        f"{other.users[0]:g} to {other.users[1]:g}): give them other slices, or times that do not meet"
                    )
        return self


class ExposureSettings(Settings):
    """The log of who was shown what by which version."""

    folder: Path = Path(".recsys/exposures")
    rotate_bytes: int = Field(default=64 << 20, ge=1)
    """Size at which a file is closed and another begun."""
    rotate_s: int = Field(default=3600, ge=1)
    """Age at which it is."""
    flush_s: float = Field(default=1.0, gt=0)
    """Seconds after which a line is in the file at the latest; a killed process loses no more."""
    queue: int = Field(default=100_000, ge=1)
    """Exposures that wait for the disk; more are dropped, counted and told of, as no request waits for a log."""


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]
