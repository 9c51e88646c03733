from .comparison import CompareSettings, EntrySettings
from .replay import PolicySettings, ReplaySettings, ShiftSettings
from .search import Parameter, Pruning, SearchSettings

__all__ = [
    "CompareSettings",
    "EntrySettings",
    "Parameter",
    "PolicySettings",
    "Pruning",
    "ReplaySettings",
    "SearchSettings",
    "ShiftSettings",
]
