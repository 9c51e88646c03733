from .commit_log import FileAccount, FileKind, LandingLog, LogEntry, Removal, file_id, origin_of
from .content_digest import EventDigest, IdDigest
from .histories import forget_histories, history_keys, remember_histories, renew_histories, store_histories
from .id_maps import compacted_map, extended_map, map_batches, map_entries
from .incremental import IncrementalVersion, content_of, landed_manifest
from .landed_state import LandedState
from .layout import IdMap, Layout, Part, StoredFile
from .part_events import (
    HAPPENED,
    LANDED,
    Arrays,
    event_chunks,
    merged_chunks,
    merged_events,
    part_schema,
    removals_of,
    superseded_events,
)
from .part_files import PartFiles, PartStore
from .quarantine import Delivery, Quarantine, last_delivery, quarantined
from .references import (
    DatasetRef,
    chosen_dataset,
    list_datasets,
    load_dataset_ref,
    read_manifest,
    same_content,
    stored_properties,
)
from .release import ReleaseVersion, record_refusal, write_dataset
from .retention import PrunePlan, plan_prune, prune_versions
from .versions import external_ids, read_events, read_table, verify_dataset

__all__ = [
    "HAPPENED",
    "LANDED",
    "Arrays",
    "DatasetRef",
    "Delivery",
    "EventDigest",
    "FileAccount",
    "FileKind",
    "IdDigest",
    "IdMap",
    "IncrementalVersion",
    "LandedState",
    "LandingLog",
    "Layout",
    "LogEntry",
    "Part",
    "PartFiles",
    "PartStore",
    "PrunePlan",
    "Quarantine",
    "ReleaseVersion",
    "Removal",
    "StoredFile",
    "chosen_dataset",
    "compacted_map",
    "content_of",
    "event_chunks",
    "extended_map",
    "external_ids",
    "file_id",
    "forget_histories",
    "history_keys",
    "landed_manifest",
    "last_delivery",
    "list_datasets",
    "load_dataset_ref",
    "map_batches",
    "map_entries",
    "merged_chunks",
    "merged_events",
    "origin_of",
    "part_schema",
    "plan_prune",
    "prune_versions",
    "quarantined",
    "read_events",
    "read_manifest",
    "read_table",
    "record_refusal",
    "remember_histories",
    "removals_of",
    "renew_histories",
    "same_content",
    "store_histories",
    "stored_properties",
    "superseded_events",
    "verify_dataset",
    "write_dataset",
]
