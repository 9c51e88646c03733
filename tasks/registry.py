"""The model registry: immutable versions in the store, sealed by a manifest that is written last.

A version is staged first (its files are uploaded, create-only), so that the gate judges what is stored and not what lies
on the training machine, and sealed with the gate's decision. A version without a manifest does not exist.

Nothing is signed, but each name vouches for what it names: the version's own name carries the digest of the files that it
was staged with, the manifest names the sha256 of each, and the promotion log names the manifest's. Whoever edits a file has
to edit all that leads to it, and the last link is the version that a person or the log asks for.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from configs.errors import AlreadyExistsError, NotFoundError, VersionCorruptError
from infra.stores import Store

__all__ = [
    "PAGE",
    "Lineage",
    "ModelRef",
    "StagedVersion",
    "collect_lineage",
    "fetch_version",
    "file_digests",
    "git_commit",
    "list_versions",
    "model_ref",
    "read_decision",
    "read_json",
    "read_manifest",
    "refuse_changed",
    "seal",
    "stage",
    "verify_files",
]

DECISION = "decision.json"
PAGE = "report.html"  # the same decision, for people
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{32}")  # 128 bits: two sets of files of one name cannot be searched for
MOST_JSON = 4 << 20  # bytes of a manifest, a decision or a log entry; they have some thousands
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PACKAGES = ("torch", "numpy", "pandas", "prefect", "recbole", "s5-pytorch", "pandera", "evidently")


@dataclass(frozen=True)
class StagedVersion:
    """Files in the store that no manifest names yet."""

    name: str
    version: str
    prefix: str
    files: dict[str, str]  # name -> sha256


@dataclass(frozen=True)
class ModelRef:
    """A sealed version."""

    name: str
    version: str
    prefix: str
    uri: str
    digest: str  # sha256 of its manifest
    created: str  # UTC, ISO 8601
    kind: str  # ss4rec, ncf, popularity
    dataset: str  # name/version
    protocol: str
    outcome: str  # of the gate
    metrics: dict[str, float]  # on the test requests of its protocol


@dataclass(frozen=True)
class Lineage:
    """Where a version comes from."""

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
    """What a manifest has to be; file names are plain, so that none leads out of the version's folder."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[2]
    name: str
    version: str
    created: str
    outcome: str
    lineage: Lineage
    files: dict[FileName, Digest]


def collect_lineage(
    *, kind: str, dataset: str, protocol: str, seed: int, settings: dict[str, Any], metrics: dict[str, float], duration_s: float
) -> Lineage:
    """Lineage of a version trained by this process on this machine."""
    return Lineage(
        kind=kind,
        dataset=dataset,
        protocol=protocol,
        seed=seed,
        settings=settings,
        metrics=metrics,
        duration_s=duration_s,
        cost=None,
        git_commit=git_commit(),
        python=sys.version.split()[0],
        packages={name: version for name in PACKAGES if (version := _package_version(name))},
        hardware=_hardware(),
    )


def file_digests(folder: Path) -> dict[str, str]:
    """sha256 by name of the files in `folder`, hidden ones apart. Raises VersionCorruptError on a link, which is no file."""
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    links = [path.name for path in paths if path.is_symlink()]
    if links:
        raise VersionCorruptError(f"{folder / links[0]} is a link; a version is made of files only. Train again.")
    return {path.name: _sha256(path) for path in paths if path.is_file()}


def refuse_changed(folder: Path, expected: dict[str, str], *, since: str, more: bool = False) -> None:
    """Raises VersionCorruptError naming a file of `folder` that is not as it was; with `more`, others may have been added."""
    found = file_digests(folder)
    for name in sorted(expected.keys() | (set() if more else found.keys())):
        if found.get(name) != expected.get(name):
            how = "added" if name not in expected else "removed" if name not in found else "changed"
            raise VersionCorruptError(
                f"{folder / name} was {how} after it was {since}: the figures found then are not of these files. Nothing was "
                "promoted; run again, and let nothing else write to work_dir."
            )


def stage(store: Store, name: str, folder: Path, now: datetime, files: dict[str, str] | None = None) -> StagedVersion:
    """Upload the files of `folder` as a new version `YYYYMMDDTHHMMSSZ-<32 hex of its content>`.

    `files` are their digests where they are known; a file that differs by the time it is uploaded fails every later check.
    """
    files = file_digests(folder) if files is None else files
    version = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{_content(files)}"
    prefix = f"models/{name}/{version}"
    for file in files:
        store.put_new(f"{prefix}/{file}", folder / file)
    return StagedVersion(name, version, prefix, files)


def seal(
    store: Store,
    staged: StagedVersion,
    decision: dict[str, Any],
    lineage: Lineage,
    now: datetime,
    page: bytes | None = None,
) -> ModelRef:
    """Add the gate's decision, its page, and the manifest: the version exists from here on.

    May be repeated after a store that did not answer: what this run has written already is taken as it is. Raises
    VersionCorruptError where the stored files are not those that were staged.
    """
    verify_files(store, staged.prefix, staged.files)
    added = {DECISION: json.dumps(decision, indent=2).encode(), **({PAGE: page} if page is not None else {})}
    for name, content in added.items():
        try:
            store.put_new(f"{staged.prefix}/{name}", content)
        except AlreadyExistsError:
            if store.get(f"{staged.prefix}/{name}") != content:
                raise
    manifest = {
        "format": 2,
        "name": staged.name,
        "version": staged.version,
        "created": now.astimezone(UTC).isoformat(timespec="seconds"),
        "outcome": decision["outcome"],
        "lineage": asdict(lineage),
        "files": {**staged.files, **{name: hashlib.sha256(content).hexdigest() for name, content in added.items()}},
    }
    with suppress(AlreadyExistsError):  # the decision is this run's, so the manifest is too
        store.put_new(f"{staged.prefix}/manifest.json", json.dumps(manifest, indent=2).encode())
    return model_ref(store, staged.name, staged.version)


def list_versions(store: Store, name: str, damaged: dict[str, str] | None = None) -> list[ModelRef]:
    """Sealed versions of a model, oldest first.

    Raises VersionCorruptError at one whose manifest is damaged, or puts its name and the reason into `damaged`.
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
    """The sealed version. Raises NotFoundError where there is none, VersionCorruptError where its manifest was edited."""
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
    """Raises NotFoundError where the version does not exist or was never sealed, VersionCorruptError where the manifest is
    damaged, belongs to another version, or names other files than the version was staged with."""
    return _read(store, name, version)[0]


def read_decision(store: Store, ref: ModelRef) -> dict[str, Any]:
    """The gate's decision that the version was sealed with. Raises VersionCorruptError where it was edited since."""
    key = f"{ref.prefix}/{DECISION}"
    try:
        content = store.get(key, MOST_JSON)
    except NotFoundError as error:
        raise _lacking(store, ref.prefix, DECISION) from error
    if hashlib.sha256(content).hexdigest() != read_manifest(store, ref.name, ref.version)["files"][DECISION]:
        raise _differing(store, key)
    decision: dict[str, Any] = json.loads(content)
    return decision


def read_json(content: bytes, what: str) -> Any:
    """The parsed object. Raises VersionCorruptError saying that `what` is damaged."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # nested too deep for the parser
        raise VersionCorruptError(f"{what} is damaged ({error}): it was changed after it was stored.") from error


def fetch_version(store: Store, prefix: str, files: dict[str, str], folder: Path) -> Path:
    """Copy the files to `folder` and check each. Raises VersionCorruptError naming the file that differs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in files.items():
        try:
            store.fetch(f"{prefix}/{name}", folder / name)
        except NotFoundError as error:
            raise _lacking(store, prefix, name) from error
        if _sha256(folder / name) != expected:
            raise _differing(store, f"{prefix}/{name}")
    return folder


def verify_files(store: Store, prefix: str, files: dict[str, str]) -> None:
    """Raises VersionCorruptError naming the first stored file that is not the one of `files`. Holds one file in memory."""
    for name, expected in files.items():
        try:
            content = store.get(f"{prefix}/{name}")
        except NotFoundError as error:
            raise _lacking(store, prefix, name) from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise _differing(store, f"{prefix}/{name}")


def _read(store: Store, name: str, version: str) -> tuple[dict[str, Any], str]:
    """The manifest, checked against the version's name, and its sha256."""
    missing = f"There is no version {version} of the model {name} in {store.uri('models')}. `recsys models` lists what there is."
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
            f"{what} is that of {manifest['name']} {manifest['version']}: it was put in this one's place. The version must not be used."
        )
    staged = {file: digest for file, digest in manifest["files"].items() if file not in (DECISION, PAGE)}
    if DECISION not in manifest["files"] or _content(staged) != version.rpartition("-")[2]:
        raise VersionCorruptError(
            f"{what} names other files than those that the version was staged with (its name carries their digest): it was changed "
            "after it was stored. The version must not be used; roll back to another one."
        )
    return manifest, hashlib.sha256(content).hexdigest()


def _content(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:32]


def _lacking(store: Store, prefix: str, name: str) -> VersionCorruptError:
    return VersionCorruptError(f"{store.uri(prefix)} lacks the file {name} that its manifest names.")


def _differing(store: Store, key: str) -> VersionCorruptError:
    return VersionCorruptError(
        f"{store.uri(key)} differs from its manifest: it was changed after it was stored. The version must not be used; roll back "
        "to another one."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_commit() -> str | None:
    """Commit of the checkout this code runs from, with `+` when files differ from it; None outside a repository."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _package_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    import torch

    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor(),
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {"cpu": cpu, "cores": os.cpu_count(), "ram_gib": round(pages / 2**30, 1), "gpus": gpus}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
