"""Settings of monitoring: the drift checks on new events, the data they compare, where the results are shown, and when a model is
trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from configs.base import Settings, Share

__all__ = ["DriftSettings", "DueSettings", "MonitoringSettings", "PolicySettings"]


class DriftSettings(Settings):
    """Drift of the newest slice of events against the reference. A check raises an alarm only if two conditions hold: the effect
    is statistically significant (`alpha`, over all checks together), and it is large enough to matter (the other settings)."""

    slice_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of events, the latest ones, in the newest slice. The slice never contains events that the champion was trained on."""
    sample_rows: int = Field(default=50_000, ge=5_000)
    """Number of rows in the reference sample that is stored with a model version. The sample consists of complete users as far as
    possible. With fewer rows than the minimum, a change of weekdays stays unseen."""
    min_rows: int = Field(default=200, ge=2)
    """Minimum number of rows of a slice. A smaller slice is reported as too small to judge. It must not exceed `sample_rows`."""
    alpha: float = Field(default=0.01, ge=0.001, lt=1)
    """Probability that any check raises an alarm on a slice from the reference's own distribution (Holm-corrected over the
    checks)."""
    resamples: int = Field(default=2000, ge=200)
    """Minimum number of slices that are resampled from the reference, user by user, to find the effect of chance. If alpha and the
    number of checks need more for an alarm to be possible, more are drawn: 2,899 for an alpha of 0.01."""
    anchor_days: int = Field(default=180, ge=0)
    """Age in days of the former champion whose reference is compared too, so that a slow drift is found although the champion is
    often renewed. The oldest former champion is taken if none is as old. 0 turns this off."""
    max_column_distance: float = Field(default=0.15, gt=0)
    """Maximum distance (normed Wasserstein or Jensen-Shannon) between a column of the slice and of the reference."""
    max_unseen_item_share: Share = 0.1
    """Maximum share of events on items that are not in the reference, above the expected share."""
    max_unseen_user_share: Share = 0.25
    """Maximum change of the share of events by users who are new since the start of the slice."""
    max_concentration_ratio: float = Field(default=2.0, gt=1)
    """Maximum factor by which two events may be on the same film more often, or less often, than in the reference."""
    max_quarantined_share: Share = 0.02
    """Maximum share of quarantined rows in a slice, above the share in the reference."""
    max_volume_ratio: float = Field(default=2.0, gt=1)
    """Maximum factor by which the same number of events may arrive faster, or more slowly, than in the reference's history."""
    max_silence_ratio: float = Field(default=2.0, ge=1)
    """Maximum time without an event, as a multiple of the longest such time in the reference's history."""
    max_live_drop: Share = 0.25
    """Maximum relative loss of the champion's NDCG@10 on events after its training, against its holdout."""

    @model_validator(mode="after")
    def _reference_can_be_judged(self) -> DriftSettings:
        if self.sample_rows < self.min_rows:
            raise ValueError(
                f"drift.sample_rows is {self.sample_rows} and drift.min_rows {self.min_rows}: every reference would be too small to "
                f"judge. Raise drift.sample_rows to at least {self.min_rows}, or lower drift.min_rows."
            )
        return self


class MonitoringSettings(Settings):
    """What a monitoring run does in addition to the drift checks."""

    live_requests: int = Field(default=2000, ge=0)
    """Maximum number of events after the champion's training that it is asked to rank, sampled at random. 0 turns live quality
    off."""
    clock: Literal["events", "wall"] = "events"
    """Clock for the age of the newest event. `events` uses the newest event itself, for historical data (every MovieLens
    release). `wall` uses this machine's clock, for a live feed."""
    evidently: bool = True
    """Also create Evidently's page if there is something to draw. It takes seconds and affects no decision."""
    workspace: Path | None = None
    """Folder of an Evidently workspace that gets a snapshot of each run. Open it with `evidently ui --workspace FOLDER`. If
    empty, no snapshots are written."""
    drawn_rows: int = Field(default=10_000, ge=100)
    """Maximum number of rows of the slice, and of the reference, that Evidently draws."""


class PolicySettings(Settings):
    """Retrain if any of these conditions holds. Without a condition, the model is never retrained."""

    every: Literal["week", "month"] | None = None
    """Retrain once per calendar week (from Monday) or month: at the first look in a later week or month than the last training. If
    empty, time alone does not trigger a retraining."""
    on_drift: bool = False
    """Retrain if the newest events have drifted from the champion's reference."""
    volume: float | None = Field(default=None, gt=0)
    """Retrain if the number of new events reaches this multiple of the last training's events: 0.25 is a quarter as many. If
    empty, volume does not trigger a retraining."""
    decay: float | None = Field(default=None, gt=0, le=1)
    """Retrain if the champion's live NDCG@10 is below that of its holdout by this share, and chance does not explain the loss. If
    empty, live quality does not trigger a retraining."""
    least_days: float = Field(default=0.0, ge=0)
    """Minimum number of days between two trainings, whatever the other conditions."""
    most_days: float | None = Field(default=None, gt=0)
    """Retrain if the last training is this many days ago. If empty, age does not trigger a retraining."""


class DueSettings(Settings):
    """Whether monitoring starts a retraining."""

    policy: PolicySettings | None = None
    """Conditions of a retraining that monitoring starts. They replace the deployment's weekly schedule. If empty, the schedule
    stays, and monitoring starts a retraining on drift."""
    budget_usd_month: float | None = Field(default=None, gt=0)
    """Maximum cost in USD of the rented machines of one calendar month (UTC). Monitoring starts no retraining that would probably
    exceed it. If empty, there is no limit."""
    max_age_s: int | None = Field(default=None, ge=1)
    """Promised maximum age of the champion in seconds, since its training. People are alerted when a tenth of it is left. If
    empty, nothing is promised."""
