"""How new events are watched: the checks of drift, what they compare, and where the outcome is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from configs.base import Settings, Share

__all__ = ["DriftSettings", "MonitoringSettings"]


class DriftSettings(Settings):
    """Drift of the newest slice of events against the reference. A check alarms only where both hold: chance alone would not
    reach the figure (`alpha`, over all checks together), and the figure is large enough to matter (the other settings)."""

    slice_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of events, the latest, that are the newest slice; of those that the champion was trained on, none."""
    sample_rows: int = Field(default=50_000, ge=100)
    """Rows of the reference sample kept with a model version, of whole users as far as they go."""
    min_rows: int = Field(default=200, ge=2)
    """A slice smaller than this is reported as too small to judge."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Chance that any check alarms on a slice of the reference's own distribution (Holm's correction over the checks)."""
    resamples: int = Field(default=2000, ge=200)
    """Slices drawn from the reference, user by user, that tell what chance reaches; more allow smaller p-values."""
    max_column_distance: float = Field(default=0.15, gt=0)
    """Distance (normed Wasserstein or Jensen-Shannon) that a column may move."""
    max_unseen_item_share: Share = 0.1
    """Share of events on items that the reference never saw, above the share to be expected, that a slice may have."""
    max_unseen_user_share: Share = 0.25
    """Change of the share of events by users who are new since the slice began that a slice may have."""
    max_concentration_ratio: float = Field(default=2.0, gt=1)
    """Times that two events may be on the same film more often, or more rarely, than in the reference."""
    max_quarantined_share: Share = 0.02
    """Share of rows in quarantine, above the reference's, that a slice may have."""
    max_volume_ratio: float = Field(default=2.0, gt=1)
    """Times that as many events may come faster, or more slowly, than in the reference's own history."""
    max_silence_ratio: float = Field(default=2.0, ge=1)
    """Longest time without an event, as a multiple of the longest in the reference's history, that a slice may have."""
    max_live_drop: Share = 0.25
    """Relative loss of NDCG@10 on events after the training, against the holdout, that a champion may have."""


class MonitoringSettings(Settings):
    """What a monitoring run does beside the checks."""

    live_requests: int = Field(default=2000, ge=0)
    """Most events after the champion's training that it is asked to rank, drawn at random; 0 leaves live quality out."""
    clock: Literal["events", "wall"] = "events"
    """What the age of the newest event is measured against: `events` is the newest event itself, for a data set of the past
    (every MovieLens release), `wall` this machine's clock, for a live feed."""
    evidently: bool = True
    """Draw Evidently's page beside our own, where there is something to draw: seconds, and nothing is decided by it."""
    workspace: Path | None = None
    """Folder of an Evidently workspace that gets a snapshot of each run; `evidently ui --workspace FOLDER` opens it."""
    drawn_rows: int = Field(default=10_000, ge=100)
    """Most rows of either side that Evidently draws."""
