from .figures import search_png, trial_rows
from .results import SearchRecord, best_settings, conclude_study, search_progress
from .study import StudyRef, open_study
from .trials import TrialRecord
from .workers import run_trials

__all__ = [
    "SearchRecord",
    "StudyRef",
    "TrialRecord",
    "best_settings",
    "conclude_study",
    "open_study",
    "run_trials",
    "search_png",
    "search_progress",
    "trial_rows",
]
