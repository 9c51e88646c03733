from .compaction import compact
from .options import LandingOptions
from .run import Landing, land

__all__ = ["Landing", "LandingOptions", "compact", "land"]
