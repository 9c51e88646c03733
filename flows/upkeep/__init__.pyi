from .daily import housekeeping

__all__ = ["housekeeping"]
