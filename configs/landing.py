"""Settings of a landing zone: when a file is ready, what is late, when a dataset is compacted, what is kept."""

from __future__ import annotations

from pydantic import Field

from configs.base import Settings, Share

__all__ = ["LandingSettings"]


class LandingSettings(Settings):
    """How the files of `data.landing` become dataset versions."""

    base: str = Field(default="newest", pattern=r"^[A-Za-z0-9-]+$")
    """Version of the dataset that the first files are added to: `newest` takes the newest stored one, if there is any, `none`
    begins with the files alone. Once files have been added it has no effect."""
    settle_s: float = Field(default=30.0, ge=0)
    """Seconds that a file of a folder must have stood unchanged before it is read: its writer may not be done."""
    give_up_s: float = Field(default=86_400.0, ge=0)
    """Seconds unchanged after which a file that cannot be read (truncated, of no known columns) is quarantined as a whole; until
    then the next run tries it again."""
    allowed_lateness_s: int = Field(default=86_400, ge=0)
    """Seconds that an event may arrive after a newer one. The watermark stays this far behind the newest event; what is accepted
    from before the watermark is counted as late."""
    refuse_from_rows: int = Field(default=100, ge=1)
    """Bad rows from which on a file is quarantined as a whole where they are more than validation.max_quarantined_share of it; a
    file with fewer loses only its bad rows."""
    compact_share: Share = 0.2
    """Share of the rows in parts other than the first above which a new version is compacted into one part."""
    compact_parts: int = Field(default=16, ge=1)
    """Parts beside the first above which a new version is compacted."""
    races: int = Field(default=5, ge=1)
    """Times that a run begins anew because another one has added files meanwhile."""
    keep_versions: int = Field(default=10, ge=1)
    """Newest versions of each dataset that `recsys datasets prune` keeps, beside all that anything in the store refers to."""
