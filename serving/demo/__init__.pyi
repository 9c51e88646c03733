from .context import Context
from .explained import Explained, LoadedVersion, as_said
from .history import GAPS, Asked, choose_filters, choose_history, choose_version
from .launch import run
from .look import cards, plain_table, short, when
from .remote import ServerLink
from .store_view import DriftRecord

__all__ = [
    "GAPS",
    "Asked",
    "Context",
    "DriftRecord",
    "Explained",
    "LoadedVersion",
    "ServerLink",
    "as_said",
    "cards",
    "choose_filters",
    "choose_history",
    "choose_version",
    "plain_table",
    "run",
    "short",
    "when",
]
