from .context import Context
from .explained import Explained, LoadedVersion, as_said
from .held_out import HeldOut
from .history import GAPS, Asked, choose_filters, choose_history, choose_version, model_for
from .launch import run
from .look import cards, legend, link_to_reports, plain_table, when
from .remote import ServerLink
from .run_story import Chapter, Records, drift_answer, tell
from .store_view import DriftRecord

__all__ = [
    "GAPS",
    "Asked",
    "Chapter",
    "Context",
    "DriftRecord",
    "Explained",
    "HeldOut",
    "LoadedVersion",
    "Records",
    "ServerLink",
    "as_said",
    "cards",
    "choose_filters",
    "choose_history",
    "choose_version",
    "drift_answer",
    "legend",
    "link_to_reports",
    "model_for",
    "plain_table",
    "run",
    "tell",
    "when",
]
