from .delimited import DAMAGE, Cells, Header, column_names, header_of, read_cells
from .external_sort import added_counts, cut_points, partition_by_key, sorted_order
from .formats import FileFormat, file_format, is_zip, opened, read_bytes, suffix_of
from .frames import column_type, empty_table, schema_of
from .parquet import ParquetWriter, Rows, parquet_batches, read_parquet

__all__ = [
    "DAMAGE",
    "Cells",
    "FileFormat",
    "Header",
    "ParquetWriter",
    "Rows",
    "added_counts",
    "column_names",
    "column_type",
    "cut_points",
    "empty_table",
    "file_format",
    "header_of",
    "is_zip",
    "opened",
    "parquet_batches",
    "partition_by_key",
    "read_bytes",
    "read_cells",
    "read_parquet",
    "schema_of",
    "sorted_order",
    "suffix_of",
]
