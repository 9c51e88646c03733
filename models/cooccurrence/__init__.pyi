from .matrix import catalogue_counts, gram_rows, item_matrix

__all__ = ["catalogue_counts", "gram_rows", "item_matrix"]
