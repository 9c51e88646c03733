from .teachers import Teacher, TeacherSettings, number_of_teachers, soft_targets, student_settings

__all__ = ["Teacher", "TeacherSettings", "number_of_teachers", "soft_targets", "student_settings"]
