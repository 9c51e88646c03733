from .index import ItemIndex, ItemMask, UserScores

__all__ = ["ItemIndex", "ItemMask", "UserScores"]
