from .teachers import Teacher, soft_targets, student_settings

__all__ = ["Teacher", "soft_targets", "student_settings"]
