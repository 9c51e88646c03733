from .content import STILL, Content
from .stored import StoredPages

__all__ = ["STILL", "Content", "StoredPages"]
