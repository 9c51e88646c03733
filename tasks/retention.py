"""Which dataset versions and parts may go: never one that anything in the store refers to, and never a part of one that stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from configs.errors import VersionCorruptError
from infra.stores import Store
from tasks.dataset_parts import Layout
from tasks.datasets import DatasetRef, list_datasets, read_manifest
from tasks.landed_versions import FORMAT
from tasks.landing_log import LandingLog, LogEntry

__all__ = ["PrunePlan", "plan_prune", "prune"]

NO_REFERENCE = ("datasets/", "landing/", "drift/")  # of the data itself, and reports on it that outlive it
TOMBSTONE = "pruned.json"


@dataclass(frozen=True)
class PrunePlan:
    """What would be deleted, and why the rest stays."""

    kept: dict[str, str]  # name/version -> why
    versions: list[str]  # name/version that would cease to exist
    objects: list[str]  # keys that would be deleted

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_prune(store: Store, keep: int) -> PrunePlan:
    """Keep the `keep` newest versions of each dataset, the newest of each landing zone, and every version that a JSON object outside
    the data names (models, decisions, promotions, searches, comparisons, audits, runs), with all that these are made of.

    Runs may add files or compact meanwhile.

    Raises VersionCorruptError where such an object cannot be read: what it refers to is not known.
    """
    # Before the versions are listed: reading a head seals the version of a run that was killed, and what lands from here on is made
    # of the head's parts and of some with later numbers.
    heads = _heads(store)
    versions = {f"{ref.name}/{ref.version}": ref for ref in list_datasets(store)}
    kept: dict[str, str] = {}
    for name in {ref.name for ref in versions.values()}:
        own = [key for key, ref in versions.items() if ref.name == name]
        kept |= dict.fromkeys(own[-keep:], f"among the newest {keep}")
    kept |= {f"{name}/{head.version}": "the newest of its landing zone" for name, head in heads.items()}
    for key in store.list():
        if key.endswith(".json") and not key.startswith(NO_REFERENCE):
            kept |= {named: f"named by {key}" for named in _named(_json(store, key), versions) if named not in kept}
    needed: set[str] = set()
    for version in list(kept):
        made_of = _made_of(store, version)
        needed |= made_of
        # Without its manifest a release that is ingested again would replace the part by the same values in other bytes.
        for release in sorted({_version_of(key) for key in made_of} & versions.keys() - kept.keys()):
            kept[release] = f"{version} is made of it"
            needed |= _made_of(store, release)
    gone = [version for version in versions if version not in kept]
    numbers = {name: head.number for name, head in heads.items()}
    return PrunePlan(dict(sorted(kept.items())), gone, sorted(_deletable(store, set(gone), needed, versions, numbers)))


def prune(store: Store, plan: PrunePlan) -> None:
    """Delete what is planned. A version ceases to exist before its objects go; a run that is killed is completed by the next."""
    for version in plan.versions:
        store.put(f"datasets/{version}/{TOMBSTONE}", b"{}")
        store.delete(f"datasets/{version}/manifest.json")
    for key in plan.objects:
        if not key.endswith(f"/{TOMBSTONE}"):
            store.delete(key)
    tombstones = {f"datasets/{version}/{TOMBSTONE}" for version in plan.versions}
    for key in tombstones | {key for key in plan.objects if key.endswith(f"/{TOMBSTONE}")}:
        store.delete(key)


def _heads(store: Store) -> dict[str, LogEntry]:
    """The last log entry by dataset, also of one whose first version a killed run has not sealed."""
    names = {key.split("/")[1] for prefix in ("datasets/", "landing/") for key in store.list(prefix)}
    found = {name: LandingLog(store, name).head() for name in sorted(names)}
    return {name: head for name, head in found.items() if head is not None}


def _version_of(key: str) -> str:
    """name/version of an object of a version; of a part, that of none."""
    return "/".join(key.split("/")[1:3])


def _made_of(store: Store, version: str) -> set[str]:
    manifest = read_manifest(store, *version.split("/"))
    if manifest["format"] == FORMAT:
        return {file.key for file in Layout.from_dict(manifest["layout"]).files}
    return {f"datasets/{version}/{file}" for file in manifest["files"]}


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
        if f"{name}/{version}" in gone | half_gone:
            yield key
        elif version == "parts" and int(file.split("-")[0]) <= heads.get(name, 0):
            yield key  # a later one belongs to a run that is under way or has just ended


def _named(content: Any, versions: dict[str, DatasetRef]) -> Iterator[str]:
    """Versions that are named anywhere in a JSON value: as `name/version`, or by the two as fields of one object."""
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
            f"{store.uri(key)} cannot be read as JSON ({error}), so it is not known which datasets it refers to, and none is deleted. "
            "Restore or remove the object."
        ) from error
