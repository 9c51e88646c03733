"""Tracking of runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.base import Settings

__all__ = ["TrackingSettings"]


class TrackingSettings(Settings):
    """Tracking with Weights & Biases and MLflow, in addition to the run's own JSON. A tracking failure is logged once and never fails a
    run."""

    mode: Literal["offline", "online", "off"] = "offline"
    """Weights & Biases: `offline` writes to work_dir/wandb, for `wandb sync`. `online` uploads, with WANDB_API_KEY or wandb's own login.
    Without the package wandb, nothing is tracked there."""
    project: str = Field(default="movielens-recsys", min_length=1)
    """W&B project, and MLflow experiment, of the runs."""
    entity: str | None = None
    """User or team that owns the project. If empty, wandb's default is used."""
    tags: tuple[str, ...] = ()
    """Tags of each run."""
    mlflow_uri: str | None = None
    """Address of an MLflow server or store that gets each run too, such as https://mlflow.example.org or sqlite:////data/mlflow.db. Its
    password comes from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. If empty, nothing is tracked there."""
    mlflow_registry: bool = False
    """Mirror the promoted versions in the model registry of the server at `mlflow_uri`, with the aliases `champion` and `previous`. The
    store's promotion log alone decides what is served: an alias that is moved in MLflow changes nothing."""
    timeout_s: float = Field(default=15.0, gt=0)
    """Seconds that the tracker may take to finish after the end of a run. After that it is stopped, and tracking is off for the
    rest of the process."""
