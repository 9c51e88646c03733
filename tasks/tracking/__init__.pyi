from .mirror import mirror_champion
from .records import RunPlan, RunRecord, candidate_plan, candidate_record
from .tracker import abandon_tracking, resume_tracking, start_tracking

__all__ = [
    "RunPlan",
    "RunRecord",
    "abandon_tracking",
    "candidate_plan",
    "candidate_record",
    "mirror_champion",
    "resume_tracking",
    "start_tracking",
]
