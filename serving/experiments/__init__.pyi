from .assignment import Assignment, Experiments
from .exposure_log import ExposureLog
from .exposures import LATEST, Exposure, ExposureSink, read_exposures, stored_exposures, waiting_exposures
from .outcomes import read_outcomes
from .page import arm_rows, check_rows, render_html, versus_rows
from .report import ExperimentReport, report_experiment

__all__ = [
    "LATEST",
    "Assignment",
    "ExperimentReport",
    "Experiments",
    "Exposure",
    "ExposureLog",
    "ExposureSink",
    "arm_rows",
    "check_rows",
    "read_exposures",
    "read_outcomes",
    "render_html",
    "report_experiment",
    "stored_exposures",
    "versus_rows",
    "waiting_exposures",
]
