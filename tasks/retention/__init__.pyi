from .plan import Gone, RetentionPlan, apply_retention, plan_retention

__all__ = ["Gone", "RetentionPlan", "apply_retention", "plan_retention"]
