from .stages import delete_old, show_life

__all__ = ["delete_old", "show_life"]
