from .batcher import Batcher
from .cold_start import ColdStart
from .engine import CHAMPION, Engine, Models
from .jobs import Advanced, Answer, EventJob, HistoryEvent, NewEvent, RecommendJob
from .served_model import Plan, ServedModel

__all__ = [
    "CHAMPION",
    "Advanced",
    "Answer",
    "Batcher",
    "ColdStart",
    "Engine",
    "EventJob",
    "HistoryEvent",
    "Models",
    "NewEvent",
    "Plan",
    "RecommendJob",
    "ServedModel",
]
