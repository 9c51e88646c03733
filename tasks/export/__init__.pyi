from .old import old_exports
from .plan import ExportPlan, chosen_version
from .run import Exported, ExportSource, Progress, export_version
from .users import read_users

__all__ = ["ExportPlan", "ExportSource", "Exported", "Progress", "chosen_version", "export_version", "old_exports", "read_users"]
