from .events import FollowedRun, Item, Touched, follow, lineage_is_on
from .touched import touched_by

__all__ = ["FollowedRun", "Item", "Touched", "follow", "lineage_is_on", "touched_by"]
