from .plan import begin_comparison, missing_runs, pinned_dataset
from .process import run_entry_apart
from .report import headline, render_html, render_markdown, result_rows
from .results import Failure, IncompleteComparisonError, ModelComparison, compare_runs, write_report
from .runs import run_plan
from .stored_runs import read_record

__all__ = [
    "Failure",
    "IncompleteComparisonError",
    "ModelComparison",
    "begin_comparison",
    "compare_runs",
    "headline",
    "missing_runs",
    "pinned_dataset",
    "read_record",
    "render_html",
    "render_markdown",
    "result_rows",
    "run_entry_apart",
    "run_plan",
    "write_report",
]
