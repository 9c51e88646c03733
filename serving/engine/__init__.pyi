from .batcher import Batcher
from .cold_start import ColdStart
from .engine import Engine
from .jobs import Answer, EventJob, EventResult, Filters, HistoryEvent, NewEvent, Recommended, RecommendJob, RequestTime, Source
from .served_model import Plan, ServedModel
from .served_models import Models, Role
from .user_states import UserStates

__all__ = [
    "Answer",
    "Batcher",
    "ColdStart",
    "Engine",
    "EventJob",
    "EventResult",
    "Filters",
    "HistoryEvent",
    "Models",
    "NewEvent",
    "Plan",
    "RecommendJob",
    "Recommended",
    "RequestTime",
    "Role",
    "ServedModel",
    "Source",
    "UserStates",
]
