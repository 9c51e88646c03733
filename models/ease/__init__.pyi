from .closed_form import item_weights
from .memory import refuse_too_many
from .recommender import EASE
from .spec import SPEC, EASESettings

__all__ = ["EASE", "SPEC", "EASESettings", "item_weights", "refuse_too_many"]
