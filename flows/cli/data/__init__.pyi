from .commands import Landing, app, list_, run_etl, with_landing

__all__ = ["Landing", "app", "list_", "run_etl", "with_landing"]
