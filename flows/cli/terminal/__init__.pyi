from .display import READY, current_display
from .story import listening, tell_runs
from .verbosity import Verbosity, add_verbosity_to, chosen_verbosity

__all__ = ["READY", "Verbosity", "add_verbosity_to", "chosen_verbosity", "current_display", "listening", "tell_runs"]
