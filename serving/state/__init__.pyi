from .failover import FailoverStates
from .store import LocalStates, StateStore, UserState
from .user_log import Outcome, OutcomeLabel, UserLog, entry, key_of

__all__ = ["FailoverStates", "LocalStates", "Outcome", "OutcomeLabel", "StateStore", "UserLog", "UserState", "entry", "key_of"]
