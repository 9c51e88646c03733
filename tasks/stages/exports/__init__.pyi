from .stage import write_export

__all__ = ["write_export"]
