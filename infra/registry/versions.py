"""The format of a sealed version: its name, its manifest and its lineage.

A version's name carries the digest of the files that it was staged with. The manifest holds the sha256 of each file, and the
promotion log holds the sha256 of the manifest. An edit of a file goes unnoticed only if every link of this chain is edited
too, and the last link is the version name that a person or the log asks for.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from configs.errors import NotFoundError, VersionCorruptError
from configs.settings import model_option
from infra.digests import sha256_of
from infra.registry.files import content_digest
from infra.storage import Store

__all__ = [
    "DECISION",
    "MOST_JSON",
    "PAGE",
    "SERVING",
    "Digest",
    "FileName",
    "Lineage",
    "ModelRef",
    "StagedVersion",
    "list_names",
    "manifest_of",
    "new_version",
    "read_json",
    "read_manifest",
    "read_version",
]

DECISION = "decision.json"
PAGE = "report.html"  # the same decision as a page for people
SERVING = "serving/"  # begins the names of the files that are served instead of the judged ones of the same name
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{32}")  # 128 bits: a search cannot find two sets of files with the same name
MOST_JSON = 4 << 20  # maximum bytes of a manifest, a decision or a log entry; a real one has a few thousand
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
ManifestName = Annotated[str, StringConstraints(pattern=r"^(serving/)?[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
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
    kind: str
    dataset: str  # name/version
    protocol: str
    outcome: str  # the gate's outcome
    metrics: dict[str, float]  # on the test requests of its protocol


@dataclass(frozen=True)
class StagedVersion:
    """A version whose files are uploaded, but which has no manifest yet.

    The files below `serving/` may be added after the version got its name, which carries the digest of the others.
    """

    name: str
    version: str
    prefix: str
    files: dict[str, str]  # name -> sha256


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
    files: dict[ManifestName, Digest]


def new_version(name: str, files: dict[str, str], now: datetime) -> StagedVersion:
    """Name a new version after the time and its files."""
    version = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{content_digest(files)}"
    return StagedVersion(name, version, f"models/{name}/{version}", files)


def manifest_of(staged: StagedVersion, outcome: str, lineage: Lineage, now: datetime, added: dict[str, str]) -> bytes:
    """Return the manifest that seals a version.

    Args:
        staged: The version.
        outcome: The gate's outcome.
        lineage: The lineage.
        now: Time of the sealing.
        added: The sha256 of each file that was added to the staged ones, by name.
    """
    manifest = {
        "format": 2,
        "name": staged.name,
        "version": staged.version,
        "created": now.astimezone(UTC).isoformat(timespec="seconds"),
        "outcome": outcome,
        "lineage": asdict(lineage),
        "files": {**staged.files, **added},
    }
    return json.dumps(manifest, indent=2).encode()


def list_names(store: Store, name: str) -> list[str]:
    """Return the names of a model's sealed versions, oldest first. Their manifests are not read."""
    pattern = re.compile(rf"models/{re.escape(name)}/({VERSION.pattern})/manifest\.json")
    return [match[1] for key in store.list(f"models/{name}/") if (match := pattern.fullmatch(key))]


def read_version(store: Store, name: str, version: str) -> ModelRef:
    """Return a sealed version. Raises the errors of `read_manifest`."""
    manifest, digest = read_manifest(store, name, version)
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


def read_manifest(store: Store, name: str, version: str) -> tuple[dict[str, Any], str]:
    """Read a manifest, and verify it against the version's name.

    Args:
        store: The store.
        name: Name of the model.
        version: Name of the version.

    Returns:
        The manifest and its sha256.

    Raises:
        NotFoundError: The version does not exist, or it was never sealed.
        VersionCorruptError: The manifest is damaged, belongs to another version, or does not name the files that the version
            was staged with.
    """
    missing = f"There is no version {version} of the model {name} in {store.uri('models')}. `recsys model list{model_option(name)}` lists the versions."
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
            f"{what} is damaged ({where}: {first['msg']}); the version cannot be used. `recsys model rollback{model_option(name)}` returns to an earlier champion."
        ) from error
    if (manifest["name"], manifest["version"]) != (name, version):
        raise VersionCorruptError(
            f"{what} belongs to {manifest['name']} {manifest['version']}: it was overwritten. The version must not be used."
        )
    added = (DECISION, PAGE)
    staged = {file: digest for file, digest in manifest["files"].items() if file not in added and not file.startswith(SERVING)}
    if DECISION not in manifest["files"] or content_digest(staged) != version.rpartition("-")[2]:
        raise VersionCorruptError(
            f"{what} does not name the files that the version was staged with (the version's name carries their digest): it was "
            "changed after it was stored. The version must not be used; roll back to another one."
        )
    return manifest, sha256_of(content)


def read_json(content: bytes, what: str) -> Any:
    """Parse JSON. Raises VersionCorruptError if it is damaged; `what` names the object in the message."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply for the parser
        raise VersionCorruptError(f"{what} is damaged ({error}): it was changed after it was stored.") from error
