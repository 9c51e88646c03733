from .apart import load_apart
from .faults import blamed, check_fitted, check_saved, refuse

__all__ = ["blamed", "check_fitted", "check_saved", "load_apart", "refuse"]
