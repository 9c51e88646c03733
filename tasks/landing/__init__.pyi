from .compaction import compact
from .erasure import Erased, erase_from_datasets
from .options import LandingOptions
from .removal import remove, undo_removal
from .run import Landing, land

__all__ = ["Erased", "Landing", "LandingOptions", "compact", "erase_from_datasets", "land", "remove", "undo_removal"]
