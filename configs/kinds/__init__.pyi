from .registry import ENTRY_POINTS, Plugins, colour_of, label_of, place_of, plugins_in_use, register, registered_kinds, spec_of
from .search_space import Parameter
from .spec import KindName, ModelSpec

__all__ = [
    "ENTRY_POINTS",
    "KindName",
    "ModelSpec",
    "Parameter",
    "Plugins",
    "colour_of",
    "label_of",
    "place_of",
    "plugins_in_use",
    "register",
    "registered_kinds",
    "spec_of",
]
