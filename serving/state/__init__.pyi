from .failover import ResilientStates
from .store import LocalStates, StateStore, UserState
from .user_log import Outcome, UserLog, entry, key_of

__all__ = ["LocalStates", "Outcome", "ResilientStates", "StateStore", "UserLog", "UserState", "entry", "key_of"]
