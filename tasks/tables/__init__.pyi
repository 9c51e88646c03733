from .external_sort import added_counts, cut_points, partition_by_key, sorted_order
from .frames import column_type, empty_table, schema_of
from .parquet import ParquetWriter, Rows, parquet_batches, read_parquet

__all__ = [
    "ParquetWriter",
    "Rows",
    "added_counts",
    "column_type",
    "cut_points",
    "empty_table",
    "parquet_batches",
    "partition_by_key",
    "read_parquet",
    "schema_of",
    "sorted_order",
]
