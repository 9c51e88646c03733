from .evidently_page import REPORT_FILE
from .figures import beyond_accuracy_rows, metrics_rows, rating_words, training_curve_png, value_rows
from .load_check import SAMPLE_FILE, LoadCheck, check_folder, check_staged, check_version, sample_requests
from .measurement import Evaluation, evaluate
from .protocol_audit import AuditReport, audit_version
from .ranking import Overlap, overlap_with, rank, rank_version
from .rating_errors import RatingErrors, errors_of_ratings
from .refit import CheckedRefit, Refit, check_refit, failed_refit, read_refit
from .served_window import ServedWindow, compare_windows, scores_after, served_events_of
from .slices import request_slices
from .version_folder import RANKS_FILE, VersionFolder, assemble_version, read_collapses, read_rankings

__all__ = [
    "RANKS_FILE",
    "REPORT_FILE",
    "SAMPLE_FILE",
    "AuditReport",
    "CheckedRefit",
    "Evaluation",
    "LoadCheck",
    "Overlap",
    "RatingErrors",
    "Refit",
    "ServedWindow",
    "VersionFolder",
    "assemble_version",
    "audit_version",
    "beyond_accuracy_rows",
    "check_folder",
    "check_refit",
    "check_staged",
    "check_version",
    "compare_windows",
    "errors_of_ratings",
    "evaluate",
    "failed_refit",
    "metrics_rows",
    "overlap_with",
    "rank",
    "rank_version",
    "rating_words",
    "read_collapses",
    "read_rankings",
    "read_refit",
    "request_slices",
    "sample_requests",
    "scores_after",
    "served_events_of",
    "training_curve_png",
    "value_rows",
]
