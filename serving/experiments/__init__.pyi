from .assignment import Assignment, Experiments, place_of
from .erasing import is_erased, logged_exposures, rewrite_logs
from .exploration import chances, explored, mixed
from .exposure_log import ExposureLog
from .exposures import LATEST, Exposure, ExposureSink, read_exposures, stored_exposures, waiting_exposures
from .interleaving import team_draft
from .off_policy import OffPolicyReport, estimate_rows, report_off_policy
from .outcome_log import Outcome, OutcomeLog
from .outcomes import StoredOutcomes, all_outcomes, read_outcomes, stored_outcomes, waiting_outcomes
from .page import arm_rows, check_rows, render_estimate, render_html, versus_rows
from .report import ExperimentReport, report_experiment

__all__ = [
    "LATEST",
    "Assignment",
    "ExperimentReport",
    "Experiments",
    "Exposure",
    "ExposureLog",
    "ExposureSink",
    "OffPolicyReport",
    "Outcome",
    "OutcomeLog",
    "StoredOutcomes",
    "all_outcomes",
    "arm_rows",
    "chances",
    "check_rows",
    "estimate_rows",
    "explored",
    "is_erased",
    "logged_exposures",
    "mixed",
    "place_of",
    "read_exposures",
    "read_outcomes",
    "render_estimate",
    "render_html",
    "report_experiment",
    "report_off_policy",
    "rewrite_logs",
    "stored_exposures",
    "stored_outcomes",
    "team_draft",
    "versus_rows",
    "waiting_exposures",
    "waiting_outcomes",
]
