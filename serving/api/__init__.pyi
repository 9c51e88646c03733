from .app import SETTINGS

__all__ = ["SETTINGS"]
