from .access import AccessSettings, ApiKey, KeyFile, Scope
from .demo import DemoSettings
from .experiments import (
    CHAMPION,
    AnalysisSettings,
    Experiment,
    ExperimentFile,
    Exploration,
    ExposureSettings,
    OutcomeKind,
    OutcomeSettings,
)
from .rules import Attributes, AttributeValue, Audience, Boost, Exclude, Pin, RuleFile, Selection
from .server import BatchSettings, HistorySettings, LimitSettings, RedisSettings, ServingSettings, StateSettings

__all__ = [
    "CHAMPION",
    "AccessSettings",
    "AnalysisSettings",
    "ApiKey",
    "AttributeValue",
    "Attributes",
    "Audience",
    "BatchSettings",
    "Boost",
    "DemoSettings",
    "Exclude",
    "Experiment",
    "ExperimentFile",
    "Exploration",
    "ExposureSettings",
    "HistorySettings",
    "KeyFile",
    "LimitSettings",
    "OutcomeKind",
    "OutcomeSettings",
    "Pin",
    "RedisSettings",
    "RuleFile",
    "Scope",
    "Selection",
    "ServingSettings",
    "StateSettings",
]
