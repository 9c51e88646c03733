"""The settings of one scheduled retraining."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from configs.base import Seed, Settings, Share
from configs.errors import SettingsError
from configs.kinds import spec_of
from configs.settings.data import DataSettings
from configs.settings.etl import EtlSettings
from configs.settings.evaluation import EvaluationSettings
from configs.settings.export import ExportSettings
from configs.settings.landing import LandingSettings
from configs.settings.models import ModelSettings
from configs.settings.monitoring import DriftSettings, DueSettings, MonitoringSettings
from configs.settings.promotion import PromotionSettings, RolloutSettings
from configs.settings.report import ReportSettings, ValueSettings
from configs.settings.retention import RetentionSettings
from configs.settings.store import StoreSettings
from configs.settings.tracking import TrackingSettings
from configs.settings.validation import ValidationSettings
from configs.training_place import TrainingPlaceSettings

__all__ = ["RetrainSettings", "SearchOrigin", "model_option"]


class SearchOrigin(Settings):
    """The search that selected the challenger's settings on the valid part. `recsys study search` fills it in."""

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
    challenger: str = "ss4rec"
    """Kind of the model that may become the champion."""
    baselines: tuple[str, ...] = ("popularity", "ncf")
    """Kinds of the models that are trained and judged beside the challenger, in this order."""
    models: ModelSettings = ModelSettings()
    promotion: PromotionSettings = PromotionSettings()
    rollout: RolloutSettings = RolloutSettings()
    report: ReportSettings = ReportSettings()
    business_value: ValueSettings = ValueSettings()
    store: StoreSettings = StoreSettings()
    tracking: TrackingSettings = TrackingSettings()
    training: TrainingPlaceSettings = TrainingPlaceSettings()
    when: DueSettings = DueSettings()
    retention: RetentionSettings = RetentionSettings()
    export: ExportSettings = ExportSettings()
    work_dir: Path = Path(".recsys/work")
    """Folder for the checkpoints and models of unfinished runs."""
    searched: SearchOrigin | None = None
    """Origin of the challenger's settings, recorded in a version's lineage. Nothing else depends on it."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that a run trains: the baselines, and the challenger last."""
        return (*self.baselines, self.challenger)

    @model_validator(mode="before")
    @classmethod
    def _each_kind_has_settings(cls, given: Any) -> Any:
        """Leave out the baselines whose settings are null, and give each other kind a section, which records its settings."""
        if not isinstance(given, Mapping):
            return given
        models = given.get("models", cls.model_fields["models"].default)
        baselines = given.get("baselines", cls.model_fields["baselines"].default)
        challenger = given.get("challenger", cls.model_fields["challenger"].default)
        if not isinstance(models, Mapping | ModelSettings) or not isinstance(baselines, list | tuple):
            return given  # which is refused
        changed: dict[str, Any] = {}
        if off := {kind for kind, section in models.items() if section is None} if isinstance(models, Mapping) else set():
            if said := off & {challenger, *given.get("baselines", ())}:
                raise ValueError(
                    f"models.{min(said)} is null, but it must be trained: give settings, or remove it from baselines"
                )
            changed["baselines"] = baselines = tuple(kind for kind in baselines if kind not in off)
        sections = models if isinstance(models, Mapping) else models.model_dump(exclude_unset=True)
        bare = [kind for kind in (*baselines, challenger) if isinstance(kind, str) and kind not in sections]
        if bare := [kind for kind in bare if kind not in ModelSettings.model_fields]:
            changed["models"] = {**sections, **{kind: {} for kind in bare}}
        return {**given, **changed}

    @model_validator(mode="after")
    def _kinds_can_be_trained(self) -> RetrainSettings:
        try:
            for kind in self.kinds:
                spec_of(kind)
        except SettingsError as error:
            raise ValueError(str(error).removesuffix(".")) from error
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"challenger and baselines must be different kinds, found {', '.join(self.kinds)}")
        if missing := [kind for kind in self.promotion.baselines or () if kind not in self.baselines]:
            raise ValueError(
                f"promotion.baselines names {missing[0]}, which is not trained: add it to baselines, or remove it from "
                "promotion.baselines"
            )
        return self


def model_option(model_name: str) -> str:
    """Return the option that a command about this model needs, with a space before it, or nothing for the default name."""
    return "" if model_name == RetrainSettings.model_fields["model_name"].default else f" --set model_name={model_name}"
