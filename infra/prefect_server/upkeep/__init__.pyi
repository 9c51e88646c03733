from .automations import (
    ALIVE,
    NO_HEARTBEAT,
    NOT_STARTED,
    PINGED,
    SILENT,
    UNSTARTED,
    ZOMBIE,
    lost_runs,
    ping_daily,
    start_in_time,
)
from .server import report_upkeep

__all__ = [
    "ALIVE",
    "NOT_STARTED",
    "NO_HEARTBEAT",
    "PINGED",
    "SILENT",
    "UNSTARTED",
    "ZOMBIE",
    "lost_runs",
    "ping_daily",
    "report_upkeep",
    "start_in_time",
]
