"""Settings of a replay: its data and slices, the retraining policies, and an optional planted shift."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from configs.base import Seed, Settings
from configs.loading import merged
from configs.renames import section_with_current_names
from configs.settings import (
    ModelSettings,
    MonitoringSettings,
    PolicySettings,
    ReportSettings,
    RetrainSettings,
    SS4RecSettings,
    TrackingSettings,
)
from configs.significance import HourlyPrice, StatisticsSettings, least_resamples

__all__ = ["PlayedPolicySettings", "ReplaySettings", "ScenarioName", "ShiftSettings"]

NAME = r"^[a-z0-9][a-z0-9-]{0,31}$"
MOST_NAME = 63  # characters of a model's name
ScenarioName = Literal["genre-surge", "bot-users", "rating-scale", "milliseconds", "feed-outage", "partial-outage"]


class PlayedPolicySettings(PolicySettings):
    """A policy of a replay: when it retrains, and how, where that differs from the replay's other policies."""

    refit: bool | None = None
    """Whether this policy's accepted challengers are trained on all events before they are served. If empty, `training.refit` says so."""
    warm_start: bool | None = None
    """Whether this policy's challengers begin with the champion's weights. If empty, `training.warm_start` says so."""
    full_every: int | None = Field(default=None, ge=1)
    """One of so many trainings of this policy is from scratch. If empty, `training.full_every` says so."""
    full_days: float | None = Field(default=None, gt=0)
    """Days after which a training of this policy is from scratch. If empty, `training.full_days` says so."""


class ShiftSettings(Settings):
    """A planted shift (`tasks.replay.scenarios`)."""

    name: ScenarioName
    """Scenario of the shift: how the events change."""
    from_slice: int = Field(ge=1)
    """Number of the slice after the base, counted from 1, at whose first second the shift starts."""
    seed: Seed = 0
    """Random seed of the shift."""


class ReplaySettings(StatisticsSettings, RetrainSettings):
    """Replays the history of a dataset slice by slice, once for each retraining policy.

    The stages of a slice (etl, monitoring, training, evaluation, gate) use the settings of a retraining. Some defaults differ: a
    small SS4Rec, popularity as the only baseline, and no Evidently pages.
    """

    id: str | None = Field(default=None, pattern=NAME)
    """Name of the replay in the store. If empty, the name is derived from the data, the settings and the code, so running the
    same replay again resumes it."""
    model_name: str = Field(default="replay", pattern=NAME)
    """Prefix of the model names. Each policy's model is `<model_name>-<policy>`, in the replay's own store under
    `store.url`/replays/<id>."""
    slices: Literal["day", "week", "month"] = "week"
    """Length of a slice, by the calendar (UTC, weeks from Monday). Each slice arrives as one event file at its end."""
    base_slices: int = Field(default=8, ge=1)
    """Number of slices at the start that arrive together as the base. The first model, shared by all policies, is trained on
    them."""
    most_slices: int | None = Field(default=None, ge=1)
    """Maximum number of slices to replay after the base. If empty, all are replayed."""
    policies: dict[str, PlayedPolicySettings] = Field(
        default={
            "never": PlayedPolicySettings(),
            "monthly": PlayedPolicySettings(every="month"),
            "on-drift": PlayedPolicySettings(on_drift=True),
            "volume": PlayedPolicySettings(volume=0.25),
        },
        min_length=1,
    )
    """Retraining policies by name. If you set policies, they replace all default ones."""
    scenario: ShiftSettings | None = None
    """Planted shift. If empty, the events are replayed unchanged."""
    live_requests: int = Field(default=1000, ge=1)
    """Maximum number of events of a slice that each policy's current champion is asked to rank. They are sampled at random and
    are the same for all policies."""
    hourly_price: HourlyPrice = 1.0
    """Price in USD of one hour of the machine that retrains. The default is an assumption; replace it with your own figure."""
    baselines: tuple[str, ...] = ("popularity",)
    """Kinds of the models that are trained and judged beside the challenger, in this order."""
    models: ModelSettings = ModelSettings(
        ss4rec=SS4RecSettings(width=32, blocks=1, max_length=50, batch_tokens=512, max_epochs=12, patience=3)
    )
    monitoring: MonitoringSettings = MonitoringSettings(evidently=False)
    report: ReportSettings = ReportSettings(evidently=False)
    tracking: TrackingSettings = TrackingSettings(mode="off")

    def model_of(self, policy: str) -> str:
        """Return the name of the policy's model."""
        return f"{self.model_name}-{policy}"

    @model_validator(mode="before")
    @classmethod
    def _sections_keep_their_defaults(cls, given: Any) -> Any:  # also if only a part of a section is given
        if not isinstance(given, dict):
            return given
        sections = {name: cls.model_fields[name].default for name in ("models", "monitoring", "report", "tracking")}
        return given | {
            name: merged(section.model_dump(exclude_unset=True), section_with_current_names(type(section), given[name]))
            for name, section in sections.items()
            if isinstance(given.get(name), dict)
        }

    @model_validator(mode="after")
    def _can_be_replayed(self) -> ReplaySettings:
        for name in self.policies:
            if not re.match(NAME, name):
                raise ValueError(f"the policy name {name!r} must consist of up to 32 of a-z, 0-9 and -")
            if len(model := self.model_of(name)) > MOST_NAME:
                raise ValueError(
                    f"the model of the policy {name} would be called {model}, which has {len(model)} characters, and a model's name has at "
                    f"most {MOST_NAME}: shorten model_name or the policy's name"
                )
        if self.promotion.approval != "automatic":
            raise ValueError("promotion.approval must be automatic: nobody can approve a promotion in the past")
        if self.data.landing is not None:
            raise ValueError("data.landing must be empty: a replay creates its own landing zone and delivers the release to it")
        pairs = len(self.policies) * (len(self.policies) - 1) // 2
        least = least_resamples(self.alpha, pairs) if pairs else 0
        if self.resamples < least:
            raise ValueError(
                f"with {self.resamples} resamples no p-value is below {1 / (self.resamples + 1):.2g}, so none of {pairs} pairs "
                f"of policies could differ significantly at {self.alpha}: raise resamples to at least {least}"
            )
        return self
