from .column_checks import AS_ARRIVED, LONG_TERM
from .drift import DriftResult
from .live_quality import LIVE, live_requests
from .page import check_rows, live_rows
from .reference import reference_of
from .run import GivenTables, Monitored, judge_slice, monitor_dataset
from .traits import read_features

__all__ = [
    "AS_ARRIVED",
    "LIVE",
    "LONG_TERM",
    "DriftResult",
    "GivenTables",
    "Monitored",
    "check_rows",
    "judge_slice",
    "live_requests",
    "live_rows",
    "monitor_dataset",
    "read_features",
    "reference_of",
]
