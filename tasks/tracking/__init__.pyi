from .records import RunPlan, RunRecord, abandon_tracking, candidate_plan, candidate_record, resume_tracking, start_tracking

__all__ = ["RunPlan", "RunRecord", "abandon_tracking", "candidate_plan", "candidate_record", "resume_tracking", "start_tracking"]
