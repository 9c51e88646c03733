"""References to dataset versions, which are sealed by a manifest that is written last."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from configs.errors import NotFoundError, VersionCorruptError
from configs.settings import DataSettings, RetrainSettings, StoreSettings
from infra.registry import ModelRegistry, find_version
from infra.storage import Store, open_store
from infra.version_names import MOST_NAMED, matching_version, short_version
from tasks.tables import PLAIN, DatasetProperties

__all__ = [
    "DatasetRef",
    "chosen_dataset",
    "list_datasets",
    "load_dataset_ref",
    "read_manifest",
    "same_content",
    "stored_properties",
]

VERSION = re.compile(r"[0-9a-f]{12}(-[0-9a-f]{12})?")  # a complete name
ORDER = {"latest": -1, "previous": -2}
"""Names by the order of the versions, and their places in it."""


@dataclass(frozen=True)
class DatasetRef:
    """A dataset version in the store."""

    name: str
    version: str
    prefix: str  # key prefix of its objects
    uri: str
    rows: int
    users: int
    items: int
    first: int  # UTC seconds of the first event
    last: int
    parents: tuple[str, ...] = ()  # name/version of the versions it was made from
    number: int = 0  # its number in the landing log; 0 for a release
    created: float = field(
        default=0.0, compare=False
    )  # UTC seconds at which it was made; 0 in versions from before it was stored
    horizon: int | None = None  # UTC seconds that the events reach (`configs.clock`); None in versions from before it was stored
    properties: DatasetProperties = PLAIN


def chosen_dataset(
    dataset: str | None,
    data: DataSettings,
    store: StoreSettings,
    model_name: str = RetrainSettings.model_fields["model_name"].default,
) -> DatasetRef:
    """Return the dataset version that a person means.

    Args:
        dataset: A version as `name/version`, or of the configured dataset as `version`. The beginning of a version suffices. `latest`
            is the newest, `previous` the one before it, and `champion` the one that the champion was trained on. By default, the
            newest version of the configured dataset.
        data: Names the configured dataset.
        store: The store.
        model_name: The model whose champion is meant.

    Raises:
        ChampionMissingError: `champion` was asked for, but there is none.
        NotFoundError: There is no such version, or several may be meant. The message lists those that exist, and the next command.
    """
    place = open_store(store)
    name, _, asked = (dataset or "latest").rpartition("/")
    name = name or data.dataset_name
    if VERSION.fullmatch(asked) and place.exists(f"datasets/{name}/{asked}/manifest.json"):
        return load_dataset_ref(place, name, asked)
    if asked == "champion":
        registry = ModelRegistry(place)
        return load_dataset_ref(
            place, *registry.version(model_name, find_version(registry, model_name, asked)).dataset.split("/")
        )
    versions = [ref for ref in list_datasets(place) if ref.name == name]
    if not versions:
        said = f"There is no dataset {name} version {asked} in" if asked not in ORDER else f"There is no version of {name} in"
        raise NotFoundError(
            f"{said} {place.uri('datasets')}: the store has no dataset version of {name}. Create one with `recsys etl`."
        )
    if asked in ORDER and len(versions) >= -ORDER[asked]:
        return versions[ORDER[asked]]
    names = [ref.version for ref in versions]
    found = matching_version(asked, names)
    if found is None:
        shown = ", ".join(short_version(each, names) for each in names[: -MOST_NAMED - 1 : -1])
        raise NotFoundError(
            f"There is no dataset {name} version {asked} in {place.uri('datasets')}. The newest are {shown}. `recsys data list` "
            "lists all."
        )
    return versions[names.index(found)]


def same_content(one: str, other: str) -> bool:
    """Return whether two versions, as name/version, have the same content in whatever parts."""
    (name, _, version), (other_name, _, other_version) = one.partition("/"), other.partition("/")
    return name == other_name and version.partition("-")[0] == other_version.partition("-")[0]


def load_dataset_ref(store: Store, name: str, version: str) -> DatasetRef:
    """Return the sealed version. Raises NotFoundError if there is none."""
    manifest = read_manifest(store, name, version)
    prefix = f"datasets/{name}/{version}"
    facts = {key: manifest[key] for key in ("rows", "users", "items", "first", "last")}
    parents = tuple(manifest["parents"])
    return DatasetRef(
        name,
        version,
        prefix,
        store.uri(prefix),
        **facts,
        parents=parents,
        number=manifest.get("number", 0),
        created=manifest.get("created", 0.0),
        horizon=manifest.get("horizon"),
        properties=DatasetProperties.from_manifest(manifest),
    )


def stored_properties(store: Store, name: str) -> DatasetProperties | None:
    """Return the properties of a dataset, which its first version fixed, or None if no version is stored."""
    found = next((ref for ref in list_datasets(store) if ref.name == name), None)
    return None if found is None else found.properties


def read_manifest(store: Store, name: str, version: str) -> dict[str, Any]:
    """Return the version's manifest.

    Raises:
        NotFoundError: There is no such sealed version.
        VersionCorruptError: The manifest is not valid JSON.
    """
    key = f"datasets/{name}/{version}/manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(store.get(key))
    except NotFoundError as error:
        raise NotFoundError(
            f"There is no dataset {name} version {version} in {store.uri('datasets')}. `recsys data list` lists them."
        ) from error
    except ValueError as error:
        raise VersionCorruptError(
            f"{store.uri(key)} cannot be read as JSON ({error}): it was changed after it was stored. Restore the object, "
            "or delete the version and ingest again."
        ) from error
    return manifest


def list_datasets(store: Store) -> list[DatasetRef]:
    """Return all sealed versions, by name, and then in the order in which they were made.

    The age of a version that was stored without its time is that of its last event. Versions of a landing zone keep the order of
    its log, whatever the clocks of its runs showed.
    """
    keys = [key.split("/") for key in store.list("datasets/") if key.endswith("/manifest.json")]
    refs = []
    for parts in keys:
        with suppress(NotFoundError):  # housekeeping has deleted it since
            refs.append(load_dataset_ref(store, parts[1], parts[2]))
    made: dict[tuple[str, str], float] = {}
    newest: dict[str, float] = {}
    for ref in sorted(refs, key=lambda ref: ref.number):
        made[ref.name, ref.version] = ref.created or ref.last
        if ref.number:
            newest[ref.name] = made[ref.name, ref.version] = max(made[ref.name, ref.version], newest.get(ref.name, 0.0))
    return sorted(refs, key=lambda ref: (ref.name, made[ref.name, ref.version], ref.number, ref.last, ref.rows))
