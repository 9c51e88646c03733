"""Read the model registry. Each version is sealed by a manifest, and a chain of digests makes edits detectable.

A version's name carries the digest of the files that it was staged with. The manifest holds the sha256 of each file, and the
promotion log holds the sha256 of the manifest. An edit of a file goes unnoticed only if every link of this chain is edited
too, and the last link is the version name that a person or the log asks for. Training, the gate and serving all read versions
with these functions.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from configs.errors import NotFoundError, VersionCorruptError
from infra.storage import Store

__all__ = [
    "DECISION",
    "MOST_JSON",
    "PAGE",
    "Lineage",
    "ModelRef",
    "content_digest",
    "differing",
    "fetch_version",
    "lacking",
    "list_versions",
    "model_ref",
    "read_json",
    "read_manifest",
    "sha256_of",
    "verify_files",
]

DECISION = "decision.json"
PAGE = "report.html"  # the same decision as a page for people
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{32}")  # 128 bits: a search cannot find two sets of files with the same name
MOST_JSON = 4 << 20  # maximum bytes of a manifest, a decision or a log entry; a real one has a few thousand
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class ModelRef:
    """A sealed model version."""

    name: str
    version: str
    prefix: str
    uri: str
    digest: str  # sha256 of its manifest
    created: str  # UTC, ISO 8601
    kind: str  # ss4rec, ncf, popularity
    dataset: str  # name/version
    protocol: str
    outcome: str  # the gate's outcome
    metrics: dict[str, float]  # on the test requests of its protocol


@dataclass(frozen=True)
class Lineage:
    """The lineage of a version: its dataset, settings, code and hardware."""

    kind: str
    dataset: str
    protocol: str
    seed: int
    settings: dict[str, Any]
    metrics: dict[str, float]
    duration_s: float
    cost: float | None
    git_commit: str | None
    python: str
    packages: dict[str, str]
    hardware: dict[str, Any]


class _Manifest(BaseModel):
    """The schema of a manifest. File names are plain, so they cannot point outside the version's folder."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[2]
    name: str
    version: str
    created: str
    outcome: str
    lineage: Lineage
    files: dict[FileName, Digest]


def list_versions(store: Store, name: str, damaged: dict[str, str] | None = None) -> list[ModelRef]:
    """Return the sealed versions of a model, oldest first.

    Args:
        store: The store.
        name: Name of the model.
        damaged: Receives each version whose manifest is damaged, with the reason. If None, such a version raises.

    Raises:
        VersionCorruptError: A manifest is damaged and `damaged` is None.
    """
    pattern = re.compile(rf"models/{re.escape(name)}/({VERSION.pattern})/manifest\.json")
    versions = []
    for version in [match[1] for key in store.list(f"models/{name}/") if (match := pattern.fullmatch(key))]:
        try:
            versions.append(model_ref(store, name, version))
        except VersionCorruptError as error:
            if damaged is None:
                raise
            damaged[version] = str(error)
    return versions


def model_ref(store: Store, name: str, version: str) -> ModelRef:
    """Return a sealed version.

    Raises:
        NotFoundError: There is no such version.
        VersionCorruptError: The manifest was edited.
    """
    manifest, digest = _read(store, name, version)
    lineage, prefix = manifest["lineage"], f"models/{name}/{version}"
    return ModelRef(
        name=name,
        version=version,
        prefix=prefix,
        uri=store.uri(prefix),
        digest=digest,
        created=manifest["created"],
        kind=lineage["kind"],
        dataset=lineage["dataset"],
        protocol=lineage["protocol"],
        outcome=manifest["outcome"],
        metrics=lineage["metrics"],
    )


def read_manifest(store: Store, name: str, version: str) -> dict[str, Any]:
    """Return the manifest of a version.

    Raises:
        NotFoundError: The version does not exist, or it was never sealed.
        VersionCorruptError: The manifest is damaged, belongs to another version, or does not name the files that the version
            was staged with.
    """
    return _read(store, name, version)[0]


def read_json(content: bytes, what: str) -> Any:
    """Parse JSON. Raises VersionCorruptError if it is damaged; `what` names the object in the message."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply for the parser
        raise VersionCorruptError(f"{what} is damaged ({error}): it was changed after it was stored.") from error


def fetch_version(store: Store, prefix: str, files: dict[str, str], folder: Path) -> Path:
    """Copy the files to `folder` and verify each one.

    Args:
        store: The store.
        prefix: Prefix of the version in the store.
        files: The sha256 of each file, by name.
        folder: Where the copies go; created if it does not exist.

    Raises:
        VersionCorruptError: A file is missing or differs from its digest. The message names the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in files.items():
        try:
            store.fetch(f"{prefix}/{name}", folder / name)
        except NotFoundError as error:
            raise lacking(store, prefix, name) from error
        if sha256_of(folder / name) != expected:
            raise differing(store, f"{prefix}/{name}")
    return folder


def verify_files(store: Store, prefix: str, files: dict[str, str]) -> None:
    """Verify the stored files against the sha256 of each. Holds one file in memory at a time.

    Raises:
        VersionCorruptError: A file is missing or differs. The message names the first one.
    """
    for name, expected in files.items():
        try:
            content = store.get(f"{prefix}/{name}")
        except NotFoundError as error:
            raise lacking(store, prefix, name) from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise differing(store, f"{prefix}/{name}")


def _read(store: Store, name: str, version: str) -> tuple[dict[str, Any], str]:
    """Return the manifest, verified against the version's name, and its sha256."""
    missing = f"There is no version {version} of the model {name} in {store.uri('models')}. `recsys models` lists the versions."
    if not VERSION.fullmatch(version):
        raise NotFoundError(missing)
    try:
        content = store.get(f"models/{name}/{version}/manifest.json", MOST_JSON)
    except NotFoundError as error:
        raise NotFoundError(missing) from error
    what = f"The manifest of {name} {version}"
    raw = read_json(content, what)
    try:
        manifest = _Manifest.model_validate(raw).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise VersionCorruptError(
            f"{what} is damaged ({where}: {first['msg']}); the version cannot be used. `recsys rollback` returns to an earlier champion."
        ) from error
    if (manifest["name"], manifest["version"]) != (name, version):
        raise VersionCorruptError(
            f"{what} belongs to {manifest['name']} {manifest['version']}: it was overwritten. The version must not be used."
        )
    staged = {file: digest for file, digest in manifest["files"].items() if file not in (DECISION, PAGE)}
    if DECISION not in manifest["files"] or content_digest(staged) != version.rpartition("-")[2]:
        raise VersionCorruptError(
            f"{what} does not name the files that the version was staged with (the version's name carries their digest): it was "
            "changed after it was stored. The version must not be used; roll back to another one."
        )
    return manifest, hashlib.sha256(content).hexdigest()


def content_digest(files: dict[str, str]) -> str:
    """Return the digest that a version's name carries: 128 bits over the name and sha256 of each file."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:32]


def lacking(store: Store, prefix: str, name: str) -> VersionCorruptError:
    """Return the error for a file that the manifest names but the store does not have."""
    return VersionCorruptError(f"{store.uri(prefix)} lacks the file {name} that its manifest names.")


def differing(store: Store, key: str) -> VersionCorruptError:
    """Return the error for a file that differs from its manifest."""
    return VersionCorruptError(
        f"{store.uri(key)} differs from its manifest: it was changed after it was stored. The version must not be used; roll back "
        "to another one."
    )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
