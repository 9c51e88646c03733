from .files import fetch_files, file_digests, refuse_changed
from .finding import find_version, short_name
from .lineage import git_commit, machine_facts
from .promotion_log import Promotion, previous_champions, refuse_frozen
from .registry import ModelRegistry
from .rollouts import Freeze, Rollout
from .steps import abort_rollout, advance_rollout, begin_rollout, freeze, thaw
from .versions import MOST_JSON, PAGE, Digest, FileName, Lineage, ModelRef, StagedVersion, read_json

__all__ = [
    "MOST_JSON",
    "PAGE",
    "Digest",
    "FileName",
    "Freeze",
    "Lineage",
    "ModelRef",
    "ModelRegistry",
    "Promotion",
    "Rollout",
    "StagedVersion",
    "abort_rollout",
    "advance_rollout",
    "begin_rollout",
    "fetch_files",
    "file_digests",
    "find_version",
    "freeze",
    "git_commit",
    "machine_facts",
    "previous_champions",
    "read_json",
    "refuse_changed",
    "refuse_frozen",
    "short_name",
    "thaw",
]
