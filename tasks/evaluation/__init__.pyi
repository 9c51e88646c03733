from .evaluate import Evaluation, evaluate_candidates, rank, rank_version, read_rankings, seen_share
from .evidently_page import REPORT_FILE
from .figures import beyond_accuracy_rows, digits, metrics_rows, training_curve_png, value_rows
from .load_check import LoadCheck, check_staged, check_version
from .protocol_audit import AuditReport, audit_version

__all__ = [
    "REPORT_FILE",
    "AuditReport",
    "Evaluation",
    "LoadCheck",
    "audit_version",
    "beyond_accuracy_rows",
    "check_staged",
    "check_version",
    "digits",
    "evaluate_candidates",
    "metrics_rows",
    "rank",
    "rank_version",
    "read_rankings",
    "seen_share",
    "training_curve_png",
    "value_rows",
]
