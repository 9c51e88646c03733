from .network import SS4RecNetwork
from .recommender import SS4Rec
from .recurrent import RecurrentSS4Rec

__all__ = ["RecurrentSS4Rec", "SS4Rec", "SS4RecNetwork"]
