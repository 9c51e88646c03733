from .stages import DEPLOYMENT, rollout_progress, show_rollout, start_rollout, take_step

__all__ = ["DEPLOYMENT", "rollout_progress", "show_rollout", "start_rollout", "take_step"]
