from .failover import FailoverStates
from .merged_log import MergedLog, merge_logs
from .store import Appended, LocalStates, StateStore, UserState
from .user_log import Outcome, OutcomeLabel, UserLog, entry, key_of

__all__ = [
    "Appended",
    "FailoverStates",
    "LocalStates",
    "MergedLog",
    "Outcome",
    "OutcomeLabel",
    "StateStore",
    "UserLog",
    "UserState",
    "entry",
    "key_of",
    "merge_logs",
]
