"""Settings of experiments on live traffic: the YAML file, which serving reloads when it changes, and the analysis."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from configs.base import Settings, Share
from configs.period import Period, meet

__all__ = [
    "CHAMPION",
    "AnalysisSettings",
    "Arm",
    "Experiment",
    "ExperimentFile",
    "Exploration",
    "ExposureSettings",
    "OutcomeKind",
    "OutcomeSettings",
    "Shadow",
]

CHAMPION = "champion"  # as a version: the current champion of the promotion log
OutcomeKind = Literal["click", "watch", "buy"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Arm(Settings):
    """One arm of an experiment: the model version that its users are served with."""

    name: Name
    """Name of the arm."""
    version: str = CHAMPION
    """Model version in the registry or its beginning, or `champion`."""
    share: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Share of the experiment's users, relative to the shares of the other arms."""

    @field_validator("version")
    @classmethod
    def _stays_the_same(cls, version: str) -> str:
        if version in ("latest", "previous"):
            raise ValueError(
                f"{version} would change what the arm measures: name a version, as `recsys model list` shows it, or champion"
            )
        return version


class AnalysisSettings(Settings):
    """Settings of `recsys experiment report`. Choose them before the experiment starts."""

    outcome: Literal["conversion", "value"] = "conversion"
    """Metric per user. `conversion`: whether the user had any outcome. `value`: the sum of the user's outcome values."""
    kinds: tuple[OutcomeKind, ...] = ()
    """Kinds of outcomes that count: `click`, `watch`, `buy`. If empty, all of them. An outcome of a file without the column `kind`
    counts always."""
    attribution: Literal["shown", "any"] = "shown"
    """Outcomes that count. `shown`: only those on items that the user was shown before. `any`: all outcomes of the user."""
    horizon_s: int = Field(default=7 * 86_400, ge=1)
    """Seconds after a user's first exposure in which outcomes count. A user enters the report when this time has passed."""
    window_s: int = Field(default=86_400, ge=1)
    """Seconds after an item was shown in which an outcome on it counts, with `shown`. The check of the log uses it too."""
    value_cap: float | None = Field(default=None, gt=0)
    """Cap on one user's value with `value`, so that one heavy user cannot decide the result. If empty, values are not capped."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Significance level of all comparisons of the experiment together, over all looks (Bonferroni-corrected over arms)."""
    tuned_users: int = Field(default=10_000, ge=1)
    """Number of users at which the confidence intervals are tightest. Choose about the number that the experiment will have."""
    min_users: int = Field(default=200, ge=2)
    """Minimum number of users in each arm before the first look, because the sequential test is asymptotic."""
    min_join_rate: Share = 0.95
    """Minimum share of outcomes whose request, or else whose user at that time, is in the log of exposures."""
    mismatch_alpha: float = Field(default=0.001, gt=0, lt=1)
    """The sample ratio check fails below this p-value: users were lost or assigned incorrectly."""
    max_crossed_share: Share = 0.01
    """Maximum share of users who may have seen more than one arm. These users are excluded."""
    min_overlap: Share = 0.95
    """Minimum share of a version's items that may have been shown, for an estimate from exposures (`recsys experiment estimate`)."""
    min_main_version: Share = 0.95
    """Minimum share of an arm's answers that come from a single version. A promotion or a fallback during an experiment changes
    what the arm measures."""


class Experiment(Settings):
    """An experiment assigns the users in one slice of the traffic permanently to arms. The first arm is the control."""

    name: Name
    """Name of the experiment."""
    kind: Literal["split", "interleaving"] = "split"
    """`split`: each user is served by one arm. `interleaving`: each user of the slice sees lists that the versions of two arms drafted
    in turn, and the analysis says which version's items users prefer. That takes fewer users."""
    arms: tuple[Arm, ...] = Field(min_length=2)
    """Arms of the experiment. The first one is the control."""
    users: tuple[Share, Share] = (0.0, 1.0)
    """Slice of the users, from and to. Each user has a fixed position between 0 and 1, the same for all experiments. Slices of
    experiments that can run at the same time must not overlap, so that no user is in two of them."""
    during: Period = Period()
    """Period in which the experiment runs."""
    active: bool = True
    """Whether the experiment is active. An inactive experiment assigns no users."""
    propensities: bool = False
    """Whether the versions of all arms answer each request, to log the probability with which each item is shown over all arms.
    That costs one answer for each further arm. Otherwise, the probabilities are those within the user's arm."""
    salt: str = ""
    """Salt of the hash that assigns users to arms. If empty, the experiment's name is used."""
    analysis: AnalysisSettings = AnalysisSettings()

    @property
    def revision(self) -> str:
        """Digest (8 hex digits) of everything that affects assignment. Exposures of different revisions are never combined."""
        assigned = [self.salt or self.name, *[[arm.name, arm.version, arm.share] for arm in self.arms]]
        if self.kind != "split":
            assigned.append(self.kind)
        return hashlib.sha256(json.dumps(assigned).encode()).hexdigest()[:8]

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the arms, normalised to add up to 1."""
        total = sum(arm.share for arm in self.arms)
        return tuple(arm.share / total for arm in self.arms)

    @model_validator(mode="after")
    def _is_a_comparison(self) -> Experiment:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name} has two arms with the same name: {', '.join(names)}")
        if self.kind == "interleaving" and len(self.arms) != 2:
            raise ValueError(f"{self.name} interleaves {len(self.arms)} arms: give it two")
        if self.users[0] >= self.users[1]:
            raise ValueError(f"users of {self.name} go from {self.users[0]:g} to {self.users[1]:g}: this slice contains nobody")
        return self


class Shadow(Settings):
    """A shadow version answers requests alongside the version that is shown. Its answers are logged and never shown."""

    version: str
    """Model version in the registry, or its beginning."""
    share: Share = 1.0
    """Share of the users whose requests the shadow version also answers."""


class Exploration(Settings):
    """A share of the lists is drawn from the best items, so that other versions can be judged by the exposures."""

    share: float = Field(default=0.05, gt=0, le=1)
    """Share of the lists that are drawn at random. Each list is a draw of its own."""
    pool: int = Field(default=30, ge=2, le=500)
    """Number of best items that these lists are drawn from. Pinned items keep their places."""
    users: tuple[Share, Share] = (0.0, 1.0)
    """Slice of the users, from and to, with the same positions as in experiments."""
    analysis: AnalysisSettings = AnalysisSettings()
    """How `recsys experiment estimate` attributes outcomes, and how many users it needs (`min_users`)."""

    @field_validator("users")
    @classmethod
    def _has_somebody(cls, users: tuple[float, float]) -> tuple[float, float]:
        if users[0] >= users[1]:
            raise ValueError(f"users go from {users[0]:g} to {users[1]:g}: this slice contains nobody")
        return users


class ExperimentFile(Settings):
    """Content of the YAML file of experiments."""

    experiments: tuple[Experiment, ...] = ()
    """Experiments on live traffic."""
    shadow: tuple[Shadow, ...] = ()
    """Shadow versions."""
    exploration: Exploration | None = None
    """Exploration, for everybody or a slice of the users. If empty, there is none."""

    @property
    def estimated_by(self) -> AnalysisSettings:
        """How estimates attribute outcomes."""
        return AnalysisSettings() if self.exploration is None else self.exploration.analysis

    @model_validator(mode="after")
    def _nobody_is_in_two(self) -> ExperimentFile:
        names = [experiment.name for experiment in self.experiments]
        if len(set(names)) < len(names):
            raise ValueError(f"two experiments have the same name: {', '.join(names)}")
        running = [experiment for experiment in self.experiments if experiment.active]
        for place, one in enumerate(running):
            for other in running[place + 1 :]:
                if _overlap(one.users, other.users) and meet(one.during, other.during):
                    raise ValueError(
                        f"{one.name} and {other.name} can run at the same time and share users ({one.users[0]:g} to "
                        f"{one.users[1]:g} and {other.users[0]:g} to {other.users[1]:g}): give them slices or periods that do "
                        "not overlap"
                    )
        return self


class ExposureSettings(Settings):
    """The exposure log records who was shown what by which version."""

    folder: Path = Path(".recsys/exposures")
    """Folder of the log files."""
    rotate_bytes: int = Field(default=64 << 20, ge=1)
    """Size in bytes at which a log file is closed and a new one is started."""
    rotate_s: int = Field(default=3600, ge=1)
    """Age in seconds at which a log file is closed and a new one is started."""
    flush_s: float = Field(default=1.0, gt=0)
    """Maximum number of seconds until a line is written to the file. A killed process loses at most these seconds."""
    queue: int = Field(default=100_000, ge=1)
    """Maximum number of exposures that wait to be written. Further exposures are dropped, counted and reported, because requests
    never wait for the log."""


class OutcomeSettings(Settings):
    """The outcome log records what users did after they were shown a list, as clients report it."""

    folder: Path = Path(".recsys/outcomes")
    """Folder of the log files. Keep it on a disk that outlives the process: an accepted outcome is in it."""
    rotate_bytes: int = Field(default=64 << 20, ge=1)
    """Size in bytes at which a log file is closed, uploaded to the store, and a new one is started."""
    rotate_s: int = Field(default=300, ge=1)
    """Age in seconds at which a log file is closed, uploaded to the store, and a new one is started."""
    late_s: int = Field(default=30 * 86_400, ge=0)
    """Seconds by which an outcome may be late. An older one is not stored, and its result is `too_old`."""
    queue: int = Field(default=10_000, ge=1)
    """Maximum number of requests whose outcomes wait for the disk. Further requests are refused with 503."""


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]
