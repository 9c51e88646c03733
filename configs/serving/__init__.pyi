from .demo import DemoSettings
from .experiments import CHAMPION, AnalysisSettings, Experiment, ExperimentFile, ExposureSettings
from .rules import Attributes, AttributeValue, Audience, Boost, Exclude, Pin, RuleFile, Selection
from .server import BatchSettings, HistorySettings, LimitSettings, RedisSettings, ServingSettings, StateSettings

__all__ = [
    "CHAMPION",
    "AnalysisSettings",
    "AttributeValue",
    "Attributes",
    "Audience",
    "BatchSettings",
    "Boost",
    "DemoSettings",
    "Exclude",
    "Experiment",
    "ExperimentFile",
    "ExposureSettings",
    "HistorySettings",
    "LimitSettings",
    "Pin",
    "RedisSettings",
    "RuleFile",
    "Selection",
    "ServingSettings",
    "StateSettings",
]
