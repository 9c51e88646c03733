"""Prune dataset versions and parts.

A version that anything in the store refers to, or that a run under way uses, is never deleted, and neither is a part of a version
that stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from configs.errors import VersionCorruptError
from infra.leases import FOLDER, TOMBSTONE, expired_leases, leases
from infra.storage import Store
from tasks.datasets.commit_log import LandingLog, LogEntry
from tasks.datasets.references import DatasetRef, list_datasets
from tasks.datasets.versions import open_version

__all__ = ["PrunePlan", "plan_prune", "prune_versions"]

NO_REFERENCE = ("datasets/", "landing/", "drift/", "due/", FOLDER)  # the data itself, reports on it that outlive it, and leases


@dataclass(frozen=True)
class PrunePlan:
    """What a prune would delete, and why the rest is kept."""

    kept: dict[str, str]  # name/version -> why
    versions: list[str]  # name/version of each version that would be deleted
    objects: list[str]  # keys that would be deleted

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_prune(store: Store, keep: int) -> PrunePlan:
    """Plan which versions and parts to delete.

    The plan keeps the `keep` newest versions of each dataset, the newest version of each landing zone, every version that a run
    under way uses, and every version that a JSON object outside the data names (models, decisions, promotions of versions that
    are stored, searches, comparisons, audits, runs). It also keeps everything these are made of. Other runs may add files or
    compact at the same time.

    Raises:
        VersionCorruptError: Such an object cannot be read, so the versions it refers to are unknown.
    """
    # Read the heads before listing the versions: reading a head seals the version of a killed run. A version made from here on
    # consists of the head's parts and of parts with later numbers.
    heads = _heads(store)
    versions = {f"{ref.name}/{ref.version}": ref for ref in list_datasets(store)}
    kept: dict[str, str] = {}
    for name in {ref.name for ref in versions.values()}:
        own = [key for key, ref in versions.items() if ref.name == name]
        kept |= dict.fromkeys(own[-keep:], f"among the newest {keep}")
    kept |= {f"{name}/{head.version}": "the newest of its landing zone" for name, head in heads.items()}
    for prefix, lease in leases(store).items():
        if (used := prefix.removeprefix("datasets/")) in versions:
            kept.setdefault(used, lease.said)
    for key in store.list():
        if key.endswith(".json") and not key.startswith(NO_REFERENCE):
            content = _json(store, key)
            if not _promotes_a_pruned_version(store, key, content):
                kept |= {named: f"named by {key}" for named in _named(content, versions) if named not in kept}
    needed: set[str] = set()
    for version in list(kept):
        made_of = _made_of(store, version)
        needed |= made_of
        # Without the manifest, ingesting the release again would replace the part by the same values in other bytes.
        for release in sorted({_version_of(key) for key in made_of} & versions.keys() - kept.keys()):
            kept[release] = f"{version} contains it"
            needed |= _made_of(store, release)
    gone = [version for version in versions if version not in kept]
    numbers = {name: head.number for name, head in heads.items()}
    objects = {*_deletable(store, set(gone), needed, versions, numbers), *expired_leases(store)}
    return PrunePlan(dict(sorted(kept.items())), gone, sorted(objects))


def prune_versions(store: Store, plan: PrunePlan) -> list[str]:
    """Delete what is planned, except what a run has begun to use since, and return the versions that stay for that reason.

    A version's manifest is deleted before its objects. If a run is killed, the next prune completes it.
    """
    for version in plan.versions:
        store.put(f"datasets/{version}/{TOMBSTONE}", b"{}")
    used = leases(store)  # after the tombstones were written: a run that this look misses finds one
    spared, needed = _with_what_they_contain(store, {version for version in plan.versions if f"datasets/{version}" in used})
    for version in plan.versions:
        if version not in spared:
            store.delete(f"datasets/{version}/manifest.json")
    for key in plan.objects:
        if not key.endswith(f"/{TOMBSTONE}") and key not in needed and _version_of(key) not in spared:
            store.delete(key)
    tombstones = {f"datasets/{version}/{TOMBSTONE}" for version in plan.versions}
    for key in tombstones | {key for key in plan.objects if key.endswith(f"/{TOMBSTONE}")}:
        store.delete(key)
    return sorted(spared.intersection(plan.versions))


def _with_what_they_contain(store: Store, versions: set[str]) -> tuple[set[str], set[str]]:
    """Return the versions with the releases that they contain, and the keys of everything that these are made of."""
    made_of = {key for version in versions for key in _made_of(store, version)}
    releases = {_version_of(key) for key in made_of if store.exists(f"datasets/{_version_of(key)}/manifest.json")}
    return versions | releases, made_of | {key for release in releases for key in _made_of(store, release)}


def _promotes_a_pruned_version(store: Store, key: str, content: Any) -> bool:
    """Return whether an object is the promotion of a model version of which nothing is left."""
    if not key.startswith("promotions/") or not isinstance(content, dict) or not {"name", "version"} <= content.keys():
        return False
    return next(iter(store.list(f"models/{content['name']}/{content['version']}/")), None) is None


def _heads(store: Store) -> dict[str, LogEntry]:
    """Return the last log entry by dataset, even if a killed run has not sealed the dataset's first version."""
    names = {key.split("/")[1] for prefix in ("datasets/", "landing/") for key in store.list(prefix)}
    found = {name: LandingLog(store, name).head() for name in sorted(names)}
    return {name: head for name, head in found.items() if head is not None}


def _version_of(key: str) -> str:
    """Return name/version of the version that an object belongs to. For a part, it names no existing version."""
    return "/".join(key.split("/")[1:3])


def _made_of(store: Store, ref: str) -> set[str]:
    name, _, version = ref.partition("/")
    return open_version(store, name, version).keys()


def _deletable(
    store: Store, gone: set[str], needed: set[str], versions: dict[str, DatasetRef], heads: dict[str, int]
) -> Iterator[str]:
    half_gone = {
        _version_of(key) for key in store.list("datasets/") if key.endswith(f"/{TOMBSTONE}") and _version_of(key) not in versions
    }
    for key in store.list("datasets/"):
        _, name, version, file = [*key.split("/", 3), "", ""][:4]
        if key in needed:
            continue
        if (
            f"{name}/{version}" in gone | half_gone or file == TOMBSTONE
        ):  # a kept version was left marked by a pruning that was killed
            yield key
        elif version == "parts" and int(file.split("-")[0]) <= heads.get(name, 0):
            yield key  # a part with a later number belongs to a run that is in progress or has just ended


def _named(content: Any, versions: dict[str, DatasetRef]) -> Iterator[str]:
    """Yield the versions that a JSON value names anywhere: as `name/version`, or as two fields of one object."""
    if isinstance(content, dict):
        both = f"{content.get('name')}/{content.get('version')}"
        if both in versions:
            yield both
        for value in content.values():
            yield from _named(value, versions)
    elif isinstance(content, list):
        for value in content:
            yield from _named(value, versions)
    elif isinstance(content, str) and content in versions:
        yield content


def _json(store: Store, key: str) -> Any:
    try:
        return json.loads(store.get(key))
    except (ValueError, RecursionError) as error:
        raise VersionCorruptError(
            f"{store.uri(key)} cannot be read as JSON ({error}), so the datasets it refers to are unknown; nothing was deleted. "
            "Restore or remove the object."
        ) from error
