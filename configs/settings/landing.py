"""Settings of a landing zone: file readiness, lateness, quarantine, compaction and retention."""

from __future__ import annotations

from pydantic import Field

from configs.base import Settings, Share

__all__ = ["LandingSettings"]


class LandingSettings(Settings):
    """How the files in `data.landing` become dataset versions."""

    base: str = Field(default="newest", pattern=r"^[A-Za-z0-9-]+$")
    """Dataset version that the first files are added to, or its beginning. `newest` uses the newest stored release, if there is one. `none` starts
    from the files alone. The setting has no effect once files have been added."""
    settle_s: float = Field(default=30.0, ge=0)
    """Seconds that a file in a folder must be unchanged before it is read, because it may still be being written."""
    give_up_s: float = Field(default=86_400.0, ge=0)
    """Seconds without a change after which an unreadable file (truncated, or without known columns) is quarantined as a whole.
    Until then, each run tries to read it again."""
    allowed_lateness_s: int = Field(default=86_400, ge=0)
    """Seconds that an event may arrive after a newer one. The watermark is this far behind the newest event. Events before the
    watermark are accepted and counted as late."""
    refuse_from_rows: int = Field(default=100, ge=1)
    """Minimum number of bad rows for which a file can be quarantined as a whole. It is if their share also exceeds
    validation.max_quarantined_share. A file with fewer bad rows only loses those rows."""
    compact_share: Share = 0.2
    """A new version is compacted into one part if the share of its rows outside the first part exceeds this value."""
    compact_parts: int = Field(default=16, ge=1)
    """A new version is compacted into one part if it has more than this number of parts besides the first."""
    max_retries_on_conflict: int = Field(default=5, ge=1)
    """Maximum number of attempts of a run, including the first. It starts over if another run has added files in the meantime."""
    keep_versions: int = Field(default=10, ge=1)
    """Number of newest versions of each dataset that `recsys data prune` keeps, in addition to all versions that are
    referenced in the store."""
