from .compaction import compact
from .run import Landing, land

__all__ = ["Landing", "compact", "land"]
