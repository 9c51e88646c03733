from .compaction import compact
from .options import LandingOptions
from .removal import remove, undo_removal
from .run import Landing, land

__all__ = ["Landing", "LandingOptions", "compact", "land", "remove", "undo_removal"]
