from .failover import FailoverStates
from .store import Appended, LocalStates, StateStore, UserState
from .user_log import Outcome, OutcomeLabel, UserLog, entry, key_of

__all__ = [
    "Appended",
    "FailoverStates",
    "LocalStates",
    "Outcome",
    "OutcomeLabel",
    "StateStore",
    "UserLog",
    "UserState",
    "entry",
    "key_of",
]
