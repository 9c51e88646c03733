from .adoption import Adopted, adopted_policy
from .feed import Slice, deliver
from .log import ReplayLog, ReplayPlan, SliceRecord, TrainingRecord
from .plan import plan_replay, run_settings
from .report import difference_rows, headline, policy_rows, render_markdown, write_report
from .results import Replay, replay_results, slice_line
from .slices import champions_of, dataset_of, keep_slice, watched_by_another
from .trainings import promoted_before, trainings_due

__all__ = [
    "Adopted",
    "Replay",
    "ReplayLog",
    "ReplayPlan",
    "Slice",
    "SliceRecord",
    "TrainingRecord",
    "adopted_policy",
    "champions_of",
    "dataset_of",
    "deliver",
    "difference_rows",
    "headline",
    "keep_slice",
    "plan_replay",
    "policy_rows",
    "promoted_before",
    "render_markdown",
    "replay_results",
    "run_settings",
    "slice_line",
    "trainings_due",
    "watched_by_another",
    "write_report",
]
