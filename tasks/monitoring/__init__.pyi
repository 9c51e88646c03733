from .drift import DriftResult
from .live_quality import live_requests
from .page import check_rows, live_rows
from .reference import reference_of
from .run import Monitored, monitor_dataset

__all__ = ["DriftResult", "Monitored", "check_rows", "live_requests", "live_rows", "monitor_dataset", "reference_of"]
