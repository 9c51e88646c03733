from .commit_log import FileAccount, FileKind, LandingLog, LogEntry, Removal, file_id, origin_of
from .content_digest import EventDigest
from .incremental import IncrementalVersion, content_of, landed_manifest
from .landed_state import LandedState
from .layout import Layout, Part, StoredFile
from .part_events import (
    HAPPENED,
    LANDED,
    PART_SCHEMA,
    Arrays,
    event_chunks,
    merged_chunks,
    merged_events,
    removals_of,
    superseded_events,
)
from .part_files import PartFiles, PartStore
from .quarantine import Delivery, Quarantine, last_delivery, quarantined
from .references import DatasetRef, chosen_dataset, list_datasets, load_dataset_ref, read_manifest, same_content
from .release import ReleaseVersion, record_refusal, write_dataset
from .retention import plan_prune, prune_versions
from .versions import read_table, verify_dataset

__all__ = [
    "HAPPENED",
    "LANDED",
    "PART_SCHEMA",
    "Arrays",
    "DatasetRef",
    "Delivery",
    "EventDigest",
    "FileAccount",
    "FileKind",
    "IncrementalVersion",
    "LandedState",
    "LandingLog",
    "Layout",
    "LogEntry",
    "Part",
    "PartFiles",
    "PartStore",
    "Quarantine",
    "ReleaseVersion",
    "Removal",
    "StoredFile",
    "chosen_dataset",
    "content_of",
    "event_chunks",
    "file_id",
    "landed_manifest",
    "last_delivery",
    "list_datasets",
    "load_dataset_ref",
    "merged_chunks",
    "merged_events",
    "origin_of",
    "plan_prune",
    "prune_versions",
    "quarantined",
    "read_manifest",
    "read_table",
    "record_refusal",
    "removals_of",
    "same_content",
    "superseded_events",
    "verify_dataset",
    "write_dataset",
]
