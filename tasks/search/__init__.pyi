from .figures import search_png, trial_rows
from .study import SearchRecord, StudyRef, TrialRecord, best_settings, conclude_study, open_study, run_trials, search_progress

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
