from .network import SS4RecNetwork
from .recommender import SS4Rec
from .recurrent import RecurrentSS4Rec
from .spec import SPEC

__all__ = ["SPEC", "RecurrentSS4Rec", "SS4Rec", "SS4RecNetwork"]
