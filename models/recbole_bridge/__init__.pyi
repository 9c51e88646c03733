from .ncf import neumf

__all__ = ["neumf"]
