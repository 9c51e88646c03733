from .cell_text import NOT_UTF8, decoded, holds_bytes, no_text, plain_type
from .delimited import DAMAGE, Cells, Header, column_names, header_of, read_cells
from .external_sort import added_counts, cut_points, partition_by_key, sorted_order
from .formats import FileFormat, file_format, is_zip, opened, read_bytes, suffix_of
from .frames import column_type, empty_table, schema_of
from .id_map import ID_TABLES, NUMBER, TEXT, IdCollector, IdCollectors, id_digests, id_schema, joined_refusals
from .models import MILLISECONDS_FROM, AcceptedModel, InteractionModel, ItemModel, UserModel, interaction_model
from .parquet import ParquetWriter, Rows, parquet_batches, read_parquet
from .properties import PLAIN, DatasetProperties, IdKind

__all__ = [
    "DAMAGE",
    "ID_TABLES",
    "MILLISECONDS_FROM",
    "NOT_UTF8",
    "NUMBER",
    "PLAIN",
    "TEXT",
    "AcceptedModel",
    "Cells",
    "DatasetProperties",
    "FileFormat",
    "Header",
    "IdCollector",
    "IdCollectors",
    "IdKind",
    "InteractionModel",
    "ItemModel",
    "ParquetWriter",
    "Rows",
    "UserModel",
    "added_counts",
    "column_names",
    "column_type",
    "cut_points",
    "decoded",
    "empty_table",
    "file_format",
    "header_of",
    "holds_bytes",
    "id_digests",
    "id_schema",
    "interaction_model",
    "is_zip",
    "joined_refusals",
    "no_text",
    "opened",
    "parquet_batches",
    "partition_by_key",
    "plain_type",
    "read_bytes",
    "read_cells",
    "read_parquet",
    "schema_of",
    "sorted_order",
    "suffix_of",
]
