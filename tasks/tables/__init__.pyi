from .columns import Columns, column_type, empty_table, schema_of
from .external_sort import added_counts, cut_points, partition_by_key, sorted_order
from .parquet import ParquetWriter, Rows

__all__ = [
    "Columns",
    "ParquetWriter",
    "Rows",
    "added_counts",
    "column_type",
    "cut_points",
    "empty_table",
    "partition_by_key",
    "schema_of",
    "sorted_order",
]
