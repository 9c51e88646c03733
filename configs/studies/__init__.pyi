from .comparison import CompareSettings, EntrySettings
from .replay import PlayedPolicySettings, ReplaySettings, ScenarioName, ShiftSettings
from .search import Pruning, SearchSettings

__all__ = [
    "CompareSettings",
    "EntrySettings",
    "PlayedPolicySettings",
    "Pruning",
    "ReplaySettings",
    "ScenarioName",
    "SearchSettings",
    "ShiftSettings",
]
