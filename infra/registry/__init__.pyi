from .files import fetch_files, file_digests, refuse_changed
from .finding import find_version, short_name
from .lineage import git_commit, machine_facts
from .promotion_log import Promotion, previous_champions
from .registry import ModelRegistry
from .versions import MOST_JSON, PAGE, Digest, FileName, Lineage, ModelRef, StagedVersion, read_json

__all__ = [
    "MOST_JSON",
    "PAGE",
    "Digest",
    "FileName",
    "Lineage",
    "ModelRef",
    "ModelRegistry",
    "Promotion",
    "StagedVersion",
    "fetch_files",
    "file_digests",
    "find_version",
    "git_commit",
    "machine_facts",
    "previous_champions",
    "read_json",
    "refuse_changed",
    "short_name",
]
