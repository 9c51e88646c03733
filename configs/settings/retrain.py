"""The settings of one scheduled retraining."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from configs.base import Seed, Settings, Share
from configs.runpod import TrainingPlaceSettings
from configs.settings.data import DataSettings
from configs.settings.etl import EtlSettings
from configs.settings.evaluation import EvaluationSettings
from configs.settings.export import ExportSettings
from configs.settings.landing import LandingSettings
from configs.settings.models import ModelSettings
from configs.settings.monitoring import DriftSettings, MonitoringSettings
from configs.settings.promotion import PromotionSettings
from configs.settings.report import ReportSettings, ValueSettings
from configs.settings.retention import RetentionSettings
from configs.settings.store import StoreSettings
from configs.settings.tracking import TrackingSettings
from configs.settings.validation import ValidationSettings

__all__ = ["RetrainSettings", "SearchOrigin", "model_option"]


class SearchOrigin(Settings):
    """The search that selected SS4Rec's settings on the valid part. `recsys study search` fills it in."""

    study: str
    """Name of the study."""
    record: str
    """Key of the search's record in the store."""
    dataset: str
    """Dataset version that the trials were trained on, as name/version."""
    trials: int = Field(ge=1)
    """Number of trials that the best one was selected from."""
    best_trial: int = Field(ge=0)
    """Number of the best trial."""
    valid_ndcg_at_10: Share
    """NDCG@10 of the best trial on the valid part."""


class RetrainSettings(Settings):
    """One scheduled retraining, from events to the gate's verdict."""

    model_name: str = Field(default="movie-ranker", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Name that versions are registered under. Each name has its own champion."""
    seed: Seed = 2025
    """Training seed. The same seed, data and settings give the same model on the same kind of machine with as many threads."""
    data: DataSettings = DataSettings()
    landing: LandingSettings = LandingSettings()
    validation: ValidationSettings = ValidationSettings()
    etl: EtlSettings = EtlSettings()
    drift: DriftSettings = DriftSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    models: ModelSettings = ModelSettings()
    promotion: PromotionSettings = PromotionSettings()
    report: ReportSettings = ReportSettings()
    business_value: ValueSettings = ValueSettings()
    store: StoreSettings = StoreSettings()
    tracking: TrackingSettings = TrackingSettings()
    training: TrainingPlaceSettings = TrainingPlaceSettings()
    retention: RetentionSettings = RetentionSettings()
    export: ExportSettings = ExportSettings()
    work_dir: Path = Path(".recsys/work")
    """Folder for the checkpoints and models of unfinished runs."""
    searched: SearchOrigin | None = None
    """Origin of models.ss4rec, recorded in a version's lineage. Nothing else depends on it."""

    @model_validator(mode="after")
    def _baselines_are_trained(self) -> RetrainSettings:
        if "ncf" in self.promotion.baselines and self.models.ncf is None:
            raise ValueError("promotion.baselines names ncf, but models.ncf is null: train it, or remove it from the list")
        return self


def model_option(model_name: str) -> str:
    """Return the option that a command about this model needs, with a space before it, or nothing for the default name."""
    return "" if model_name == RetrainSettings.model_fields["model_name"].default else f" --set model_name={model_name}"
