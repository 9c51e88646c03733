from .measuring import Measuring
from .reporting import MeasuringLoop
from .sides import CONTROLS, Underway, place_in

__all__ = ["CONTROLS", "Measuring", "MeasuringLoop", "Underway", "place_in"]
