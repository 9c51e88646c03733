from .comparison import CompareSettings, EntrySettings
from .replay import PolicySettings, ReplaySettings, ScenarioName, ShiftSettings
from .search import Parameter, Pruning, SearchSettings

__all__ = [
    "CompareSettings",
    "EntrySettings",
    "Parameter",
    "PolicySettings",
    "Pruning",
    "ReplaySettings",
    "ScenarioName",
    "SearchSettings",
    "ShiftSettings",
]
