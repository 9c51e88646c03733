from .data import (
    DEFAULT_NOUNS,
    ColumnSettings,
    DataSettings,
    IdTypeSettings,
    ItemColumnSettings,
    NounSettings,
    SourceName,
    UserColumnSettings,
)
from .etl import EtlSettings
from .evaluation import EvaluationSettings, ProtocolId
from .export import ExportPart, ExportSettings
from .landing import LandingSettings
from .models import ModelSettings, NCFSettings, PopularitySettings, SS4RecSettings
from .monitoring import DriftSettings, DueSettings, MonitoringSettings, PolicySettings
from .promotion import SLICES, FloorSettings, PromotionSettings, RolloutSettings
from .report import ReportSettings, ValueSettings
from .retention import RetentionSettings
from .retrain import RetrainSettings, SearchOrigin, model_option
from .store import StoreSettings
from .tracking import TrackingSettings
from .validation import ValidationSettings

__all__ = [
    "DEFAULT_NOUNS",
    "SLICES",
    "ColumnSettings",
    "DataSettings",
    "DriftSettings",
    "DueSettings",
    "EtlSettings",
    "EvaluationSettings",
    "ExportPart",
    "ExportSettings",
    "FloorSettings",
    "IdTypeSettings",
    "ItemColumnSettings",
    "LandingSettings",
    "ModelSettings",
    "MonitoringSettings",
    "NCFSettings",
    "NounSettings",
    "PolicySettings",
    "PopularitySettings",
    "PromotionSettings",
    "ProtocolId",
    "ReportSettings",
    "RetentionSettings",
    "RetrainSettings",
    "RolloutSettings",
    "SS4RecSettings",
    "SearchOrigin",
    "SourceName",
    "StoreSettings",
    "TrackingSettings",
    "UserColumnSettings",
    "ValidationSettings",
    "ValueSettings",
    "model_option",
]
