from .events import EventChunk, EventFile, Mask, open_event_file, whole_numbers
from .features import build_features, earlier_events
from .merge import merge_interactions
from .metadata import (
    ANY_TIME,
    TABLES,
    DescriptionFile,
    Kind,
    described,
    description_kind,
    forgotten,
    public,
    read_descriptions,
    seeded,
    with_events,
    with_times,
)
from .release import Release, ReleaseRefusedError, building, chunk_reader
from .row_account import BAD_ROWS, RowAccount, accepted_events
from .sources import IngestedSource, ingest, locate
from .validation import Validated, ValidationReport, validate

__all__ = [
    "ANY_TIME",
    "BAD_ROWS",
    "TABLES",
    "DescriptionFile",
    "EventChunk",
    "EventFile",
    "IngestedSource",
    "Kind",
    "Mask",
    "Release",
    "ReleaseRefusedError",
    "RowAccount",
    "Validated",
    "ValidationReport",
    "accepted_events",
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
    "seeded",
    "validate",
    "whole_numbers",
    "with_events",
    "with_times",
]
