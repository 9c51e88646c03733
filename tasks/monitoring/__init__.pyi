from .column_checks import AS_ARRIVED, LONG_TERM
from .drift import DriftResult
from .live_quality import live_requests
from .page import check_rows, live_rows
from .reference import reference_of
from .run import Monitored, judge_slice, monitor_dataset

__all__ = [
    "AS_ARRIVED",
    "LONG_TERM",
    "DriftResult",
    "Monitored",
    "check_rows",
    "judge_slice",
    "live_requests",
    "live_rows",
    "monitor_dataset",
    "reference_of",
]
