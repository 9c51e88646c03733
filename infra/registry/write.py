"""The model registry: immutable versions in the store, sealed by a manifest that is written last.

A version is staged first: its files are uploaded, create-only. The gate therefore judges the stored files, not the files on the
training machine. The version is then sealed with the gate's decision. A version without a manifest does not exist.

`infra.registry.versions` describes how a version is read back and verified. Its names are re-exported here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.errors import AlreadyExistsError, NotFoundError, VersionCorruptError
from infra.registry.versions import (
    DECISION,
    MOST_JSON,
    PAGE,
    Lineage,
    ModelRef,
    content_digest,
    differing,
    fetch_version,
    lacking,
    list_versions,
    model_ref,
    read_json,
    read_manifest,
    sha256_of,
    verify_files,
)
from infra.storage import Store

__all__ = [
    "PAGE",
    "Lineage",
    "ModelRef",
    "StagedVersion",
    "collect_lineage",
    "fetch_version",
    "file_digests",
    "git_commit",
    "list_decisions",
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

PACKAGES = ("torch", "numpy", "pandas", "prefect", "recbole", "s5-pytorch", "pandera", "evidently")


@dataclass(frozen=True)
class StagedVersion:
    """A version whose files are uploaded, but which has no manifest yet."""

    name: str
    version: str
    prefix: str
    files: dict[str, str]  # name -> sha256


def collect_lineage(
    *,
    kind: str,
    dataset: str,
    protocol: str,
    seed: int,
    settings: dict[str, Any],
    metrics: dict[str, float],
    duration_s: float,
    replicas: int = 1,
) -> Lineage:
    """Collect the lineage of a version that `replicas` processes trained together on this machine."""
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
        hardware={**_hardware(), "replicas": replicas},
    )


def file_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file in `folder` by name, without hidden files. Raises VersionCorruptError if there is a link."""
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    links = [path.name for path in paths if path.is_symlink()]
    if links:
        raise VersionCorruptError(f"{folder / links[0]} is a link, but a version consists of regular files only. Train again.")
    return {path.name: sha256_of(path) for path in paths if path.is_file()}


def refuse_changed(folder: Path, expected: dict[str, str], *, since: str, more: bool = False) -> None:
    """Raise VersionCorruptError, naming the file, if `folder` differs from `expected`. With `more`, added files are allowed."""
    found = file_digests(folder)
    for name in sorted(expected.keys() | (set() if more else found.keys())):
        if found.get(name) != expected.get(name):
            how = "added" if name not in expected else "removed" if name not in found else "changed"
            raise VersionCorruptError(
                f"{folder / name} was {how} after it was {since}, so the figures do not belong to these files. Nothing was "
                "promoted. Run again, and make sure that nothing else writes to work_dir."
            )


def stage(store: Store, name: str, folder: Path, now: datetime, files: dict[str, str] | None = None) -> StagedVersion:
    """Upload the files of `folder` as a new version `YYYYMMDDTHHMMSSZ-<32 hex digits of its content>`.

    `files` are their digests, if already known. A file that has changed by the time it is uploaded fails every later check.
    """
    files = file_digests(folder) if files is None else files
    version = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{content_digest(files)}"
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
    """Add the gate's decision, its page and the manifest. From then on the version exists.

    The call can be repeated if the store did not answer: files that this run has already written are accepted.

    Raises:
        VersionCorruptError: The stored files differ from those that were staged.
        AlreadyExistsError: The store already holds another decision or page for the version.
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
    with suppress(AlreadyExistsError):  # this run wrote the decision, so it also wrote the manifest
        store.put_new(f"{staged.prefix}/manifest.json", json.dumps(manifest, indent=2).encode())
    return model_ref(store, staged.name, staged.version)


def read_decision(store: Store, ref: ModelRef) -> dict[str, Any]:
    """Read the decision that the version was sealed with. Raises VersionCorruptError if it is missing or was edited."""
    key = f"{ref.prefix}/{DECISION}"
    try:
        content = store.get(key, MOST_JSON)
    except NotFoundError as error:
        raise lacking(store, ref.prefix, DECISION) from error
    if hashlib.sha256(content).hexdigest() != read_manifest(store, ref.name, ref.version)["files"][DECISION]:
        raise differing(store, key)
    decision: dict[str, Any] = json.loads(content)
    return decision


def list_decisions(store: Store, name: str, version: str) -> list[tuple[str, dict[str, Any]]]:
    """List the decisions made after the version was sealed, oldest first, each with its UTC time as `YYYYMMDDTHHMMSSffffffZ`."""
    keys = sorted(key for key in store.list(f"decisions/{name}/{version}/") if key.endswith(".json"))
    return [(key.rpartition("/")[2].removesuffix(".json"), read_json(store.get(key, MOST_JSON), store.uri(key))) for key in keys]


def git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from, with a trailing `+` if files were modified.

    Outside a repository, return RECSYS_COMMIT, which the image build sets, or None.
    """
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
        return os.environ.get("RECSYS_COMMIT") or None
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
