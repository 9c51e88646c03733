"""Settings of a replay: what is replayed, in which slices, by which policies, and what goes wrong on the way."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from configs.base import Settings
from configs.loading import merged
from configs.models import ModelSettings, SS4RecSettings
from configs.monitoring import MonitoringSettings
from configs.settings import PromotionSettings, ReportSettings, RetrainSettings, TrackingSettings

__all__ = ["PolicySettings", "ReplaySettings", "ShiftSettings"]

NAME = r"^[a-z0-9][a-z0-9-]{0,31}$"
ScenarioName = Literal["genre wave", "bot users", "rating scale", "milliseconds", "feed outage", "partial outage"]


class PolicySettings(Settings):
    """When a model is retrained after a slice: as soon as any of these holds. With none of them it never is."""

    every: Literal["week", "month"] | None = None
    """Once in each calendar week (from Monday) or month: after the first slice that ends in another one than the last training."""
    on_drift: bool = False
    """When the slice has drifted away from the champion's reference."""
    volume: float | None = Field(default=None, gt=0)
    """When so many times the events of the last training have come in since: 0.25 is a quarter as many."""
    least_days: float = Field(default=0.0, ge=0)
    """Days after a training in which there is no other, whatever happens."""


class ShiftSettings(Settings):
    """A planted shift (`tasks.shifts`)."""

    name: ScenarioName
    """What happens to the events."""
    from_slice: int = Field(ge=1)
    """Slice after the base, counted from 1, with whose first second it begins."""
    seed: int = Field(default=0, ge=0)
    """Seed of what it draws."""


class ReplaySettings(RetrainSettings):
    """A data set's past lived through again, slice by slice, once for each policy.

    What a slice goes through (etl, monitoring, training, evaluation, gate) has the settings of a retraining; the defaults that
    differ are a small SS4Rec, popularity as the only baseline, and no pages that nobody would read.
    """

    id: str | None = Field(default=None, pattern=NAME)
    """Name of the replay in the store. Empty, it is made of the data, the settings and the code, so the same replay goes on where
    it ended."""
    model_name: str = Field(default="replay", pattern=NAME)
    """Each policy's model is `<model_name>-<policy>`, in a store of the replay's own under `store.url`/replays/<id>."""
    slices: Literal["day", "week", "month"] = "week"
    """Length of a slice, by the calendar (UTC, weeks from Monday). Each comes in as one event file when it has ended."""
    base_slices: int = Field(default=8, ge=1)
    """First slices that come in together: the first model of every policy is trained on them, once for all."""
    most_slices: int | None = Field(default=None, ge=1)
    """Slices after the base that are replayed; all where empty."""
    policies: dict[str, PolicySettings] = Field(
        default={
            "never": PolicySettings(),
            "monthly": PolicySettings(every="month"),
            "on-drift": PolicySettings(on_drift=True),
            "volume": PolicySettings(volume=0.25),
        },
        min_length=1,
    )
    """By name. Policies that are set take the place of all of these."""
    scenario: ShiftSettings | None = None
    live_requests: int = Field(default=1000, ge=1)
    """Most events of a slice that every policy's champion of that time is asked to rank: the same ones for all, drawn at random."""
    hourly_price: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """USD for an hour of the machine that retrains: an assumption, to be replaced by your own figure."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Level of the tests between policies, for all pairs together (Holm)."""
    resamples: int = Field(default=10_000, ge=100)
    """Bootstrap resamples of the report."""
    bootstrap_seed: int = Field(default=17, ge=0)
    """Seed of the bootstrap."""
    models: ModelSettings = ModelSettings(
        ss4rec=SS4RecSettings(width=32, blocks=1, max_length=50, batch_tokens=512, max_epochs=12, patience=3), ncf=None
    )
    monitoring: MonitoringSettings = MonitoringSettings(evidently=False)
    promotion: PromotionSettings = PromotionSettings(baselines=("popularity",))
    report: ReportSettings = ReportSettings(recommendations=False)
    tracking: TrackingSettings = TrackingSettings(mode="off")

    def model_of(self, policy: str) -> str:
        """Name of the policy's model."""
        return f"{self.model_name}-{policy}"

    @model_validator(mode="before")
    @classmethod
    def _sections_keep_their_defaults(cls, given: Any) -> Any:  # where a part of one is given
        if not isinstance(given, dict):
            return given
        sections = {name: cls.model_fields[name].default for name in ("models", "monitoring", "promotion", "report", "tracking")}
        own = {name: section.model_dump(exclude_unset=True) for name, section in sections.items()}
        return given | {name: merged(below, given[name]) for name, below in own.items() if isinstance(given.get(name), dict)}

    @model_validator(mode="after")
    def _can_be_replayed(self) -> ReplaySettings:
        for name in self.policies:
            if not re.match(NAME, name):
                raise ValueError(f"the policy {name!r} must be named by up to 32 of a-z, 0-9 and -")
        if self.data.landing is not None:
            raise ValueError(
                "data.landing must be empty: a replay makes a landing zone of its own, and delivers the release to it"
            )
        pairs = len(self.policies) * (len(self.policies) - 1) // 2
        if pairs / (self.resamples + 1) > self.alpha:
            raise ValueError(
                f"with {self.resamples} resamples no p-value is below {1 / (self.resamples + 1):.2g}, so of {pairs} pairs of policies "
                f"none could be told apart at {self.alpha}: raise resamples above {int(pairs / self.alpha)}"
            )
        return self
