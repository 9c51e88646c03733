from .comparison import CompareSettings, EntrySettings
from .replay import PolicySettings, ReplaySettings, ScenarioName, ShiftSettings
from .search import Pruning, SearchSettings

__all__ = [
    "CompareSettings",
    "EntrySettings",
    "PolicySettings",
    "Pruning",
    "ReplaySettings",
    "ScenarioName",
    "SearchSettings",
    "ShiftSettings",
]
