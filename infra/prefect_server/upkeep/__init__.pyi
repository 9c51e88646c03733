from .automations import ALIVE, NOT_STARTED, PINGED, UNSTARTED, ping_daily, start_in_time
from .server import report_upkeep

__all__ = ["ALIVE", "NOT_STARTED", "PINGED", "UNSTARTED", "ping_daily", "report_upkeep", "start_in_time"]
