from .comparison import CompareSettings, EntrySettings
from .replay import ReplaySettings, ScenarioName, ShiftSettings
from .search import Pruning, SearchSettings

__all__ = [
    "CompareSettings",
    "EntrySettings",
    "Pruning",
    "ReplaySettings",
    "ScenarioName",
    "SearchSettings",
    "ShiftSettings",
]
