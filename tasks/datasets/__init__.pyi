from .commit_log import FileAccount, FileKind, LandingLog, LogEntry, file_id
from .content_digest import EventDigest
from .incremental import LandedState, content_of, landed_manifest, store_file, store_frame
from .parts import (
    LANDED,
    Arrays,
    Layout,
    Part,
    PartFiles,
    PartWriter,
    StoredFile,
    event_chunks,
    merged_chunks,
    merged_events,
    removals_of,
)
from .quarantine import quarantined
from .retention import plan_prune, prune_versions
from .versions import (
    DatasetRef,
    Quarantine,
    list_datasets,
    load_dataset_ref,
    read_manifest,
    read_table,
    verify_dataset,
    write_dataset,
)

__all__ = [
    "LANDED",
    "Arrays",
    "DatasetRef",
    "EventDigest",
    "FileAccount",
    "FileKind",
    "LandedState",
    "LandingLog",
    "Layout",
    "LogEntry",
    "Part",
    "PartFiles",
    "PartWriter",
    "Quarantine",
    "StoredFile",
    "content_of",
    "event_chunks",
    "file_id",
    "landed_manifest",
    "list_datasets",
    "load_dataset_ref",
    "merged_chunks",
    "merged_events",
    "plan_prune",
    "prune_versions",
    "quarantined",
    "read_manifest",
    "read_table",
    "removals_of",
    "store_file",
    "store_frame",
    "verify_dataset",
    "write_dataset",
]
