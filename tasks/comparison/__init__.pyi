from .process import run_entry_apart
from .report import headline, render_html, render_markdown, result_rows
from .results import Comparison, Failure, IncompleteComparisonError, compare_runs, write_report
from .runs import begin_comparison, missing_runs, pinned_dataset, read_record, run_plan

__all__ = [
    "Comparison",
    "Failure",
    "IncompleteComparisonError",
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
