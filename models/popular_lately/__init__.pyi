from .counts import EventCounts
from .recommender import PopularLately
from .spec import SPEC, PopularLatelySettings

__all__ = ["SPEC", "EventCounts", "PopularLately", "PopularLatelySettings"]
