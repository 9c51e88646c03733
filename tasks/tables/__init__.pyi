from .external_sort import added_counts, by_key, cut_points, sorted_order
from .parquet import ParquetWriter

__all__ = ["ParquetWriter", "added_counts", "by_key", "cut_points", "sorted_order"]
