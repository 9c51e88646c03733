"""How much of what grows with each run is kept."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from configs.base import Settings

__all__ = ["RetentionSettings"]


class RetentionSettings(Settings):
    """What `recsys prune` and `recsys model prune` keep. The champion, versions in an experiment, and versions that a run uses always
    stay."""

    automatic: bool = False
    """Whether the deployment `housekeeping` deletes each day what is not kept. Otherwise it only says what would go, and `recsys prune
    --yes` deletes."""
    experiments: tuple[Path, ...] = ()
    """Experiments files (YAML) of servers, whose versions stay. A deletion does not know of them otherwise."""
    keep_days: int = Field(default=400, ge=30)
    """Number of days for which exposures, outcomes, the pages of rollouts, and figures of drift and of answers about retrainings are
    kept. An experiment, or an estimate from exposures, cannot look further back."""
    keep_exports: int = Field(default=14, ge=1)
    """Number of newest complete exports of each model that are kept."""
    keep_versions: int = Field(default=10, ge=1)
    """Number of newest versions of the model that are kept."""
    keep_champions: int = Field(default=3, ge=0)
    """Number of previous champions that are kept: those that the next rollbacks would return to."""
    keep_pages: int = Field(default=30, ge=0)
    """Number of newest drift measurements of each dataset, and of answers to whether a retraining of the model is due, whose pages
    are kept. The figures of all stay."""
    keep_runs: int = Field(default=30, ge=0)
    """Number of newest run folders of Weights & Biases in work_dir that are kept. Older ones are deleted whether or not they were
    synced."""
