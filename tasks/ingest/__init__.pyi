from .attributes import typed
from .description_files import DescriptionFile, description_kind, read_descriptions
from .events import EventChunk, EventFile, EventReading, Mask, open_event_file, reading_of, trimmed, whole_numbers
from .features import build_features, earlier_events
from .merge import merge_interactions
from .metadata import (
    ANY_TIME,
    TABLES,
    attributes_of,
    described,
    forgotten,
    public,
    seeded,
    with_events,
    with_times,
)
from .properties_of import reading_for, resolved_properties
from .release import Release, ReleaseRefusedError, building, chunk_reader, without_users
from .row_account import BAD_ROWS, RowAccount, accepted_events
from .sources import IngestedSource, LocatedSource, ingest, locate
from .table_reading import Kind, TableReading, refusing_tables, table_readings
from .validation import Validated, ValidationReport, validate

__all__ = [
    "ANY_TIME",
    "BAD_ROWS",
    "TABLES",
    "DescriptionFile",
    "EventChunk",
    "EventFile",
    "EventReading",
    "IngestedSource",
    "Kind",
    "LocatedSource",
    "Mask",
    "Release",
    "ReleaseRefusedError",
    "RowAccount",
    "TableReading",
    "Validated",
    "ValidationReport",
    "accepted_events",
    "attributes_of",
    "build_features",
    "building",
    "chunk_reader",
    "described",
    "description_kind",
    "earlier_events",
    "forgotten",
    "ingest",
    "locate",
    "merge_interactions",
    "open_event_file",
    "public",
    "read_descriptions",
    "reading_for",
    "reading_of",
    "refusing_tables",
    "resolved_properties",
    "seeded",
    "table_readings",
    "trimmed",
    "typed",
    "validate",
    "whole_numbers",
    "with_events",
    "with_times",
    "without_users",
]
