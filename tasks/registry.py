"""The model registry: immutable versions in the store, sealed by a manifest that is written last.

A version is staged first (its files are uploaded, create-only), so that the gate judges what is stored and not what lies
on the training machine, and sealed with the gate's decision. A version without a manifest does not exist.
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
from typing import Any

from configs.errors import AlreadyExistsError, NotFoundError, VersionCorruptError
from infra.stores import Store

__all__ = [
    "Lineage",
    "ModelRef",
    "StagedVersion",
    "collect_lineage",
    "fetch_version",
    "git_commit",
    "list_versions",
    "model_ref",
    "read_decision",
    "read_manifest",
    "seal",
    "stage",
]

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


def stage(store: Store, name: str, folder: Path, now: datetime) -> StagedVersion:
    """Upload the files of `folder` as a new version `YYYYMMDDTHHMMSSZ-<8 hex of its content>`."""
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}
    content = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:8]
    version = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{content}"
    prefix = f"models/{name}/{version}"
    for file in files:
        store.put_new(f"{prefix}/{file}", folder / file)
    return StagedVersion(name, version, prefix, files)


def seal(store: Store, staged: StagedVersion, decision: dict[str, Any], lineage: Lineage, now: datetime) -> ModelRef:
    """Add the gate's decision and the manifest: the version exists from here on.

    May be repeated after a store that did not answer: what this run has written already is taken as it is.
    """
    content = json.dumps(decision, indent=2).encode()
    try:
        store.put_new(f"{staged.prefix}/decision.json", content)
    except AlreadyExistsError:
        if store.get(f"{staged.prefix}/decision.json") != content:
            raise
    manifest = {
        "format": 1,
        "name": staged.name,
        "version": staged.version,
        "created": now.astimezone(UTC).isoformat(timespec="seconds"),
        "outcome": decision["outcome"],
        "lineage": asdict(lineage),
        "files": {**staged.files, "decision.json": hashlib.sha256(content).hexdigest()},
    }
    with suppress(AlreadyExistsError):  # the decision is this run's, so the manifest is too
        store.put_new(f"{staged.prefix}/manifest.json", json.dumps(manifest, indent=2).encode())
    return model_ref(store, staged.name, staged.version)


def list_versions(store: Store, name: str) -> list[ModelRef]:
    """Sealed versions of a model, oldest first."""
    pattern = re.compile(rf"models/{re.escape(name)}/([^/]+)/manifest\.json")
    found = [match[1] for key in store.list(f"models/{name}/") if (match := pattern.fullmatch(key))]
    return [_ref(store, read_manifest(store, name, version)) for version in found]


def model_ref(store: Store, name: str, version: str) -> ModelRef:
    """The sealed version. Raises NotFoundError."""
    return _ref(store, read_manifest(store, name, version))


def read_manifest(store: Store, name: str, version: str) -> dict[str, Any]:
    """Raises NotFoundError where the version does not exist or was never sealed."""
    try:
        manifest: dict[str, Any] = json.loads(store.get(f"models/{name}/{version}/manifest.json"))
    except NotFoundError as error:
        raise NotFoundError(
            f"There is no version {version} of the model {name} in {store.uri('models')}. `recsys models` lists what there is."
        ) from error
    except ValueError as error:
        raise VersionCorruptError(
            f"The manifest of {name} {version} is damaged ({error}); the version cannot be used."
        ) from error
    return manifest


def read_decision(store: Store, ref: ModelRef) -> dict[str, Any]:
    """The gate's decision that the version was sealed with."""
    decision: dict[str, Any] = json.loads(store.get(f"{ref.prefix}/decision.json"))
    return decision


def fetch_version(store: Store, prefix: str, files: dict[str, str], folder: Path) -> Path:
    """Copy the files to `folder` and check each. Raises VersionCorruptError naming the file that differs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in files.items():
        try:
            store.fetch(f"{prefix}/{name}", folder / name)
        except NotFoundError as error:
            raise VersionCorruptError(f"{store.uri(prefix)} lacks the file {name} that its manifest names.") from error
        if _sha256(folder / name) != expected:
            raise VersionCorruptError(
                f"{store.uri(f'{prefix}/{name}')} differs from its manifest: it was changed after it was stored. The version "
                "must not be used; roll back to another one."
            )
    return folder


def _ref(store: Store, manifest: dict[str, Any]) -> ModelRef:
    name, version, lineage = manifest["name"], manifest["version"], manifest["lineage"]
    prefix = f"models/{name}/{version}"
    return ModelRef(
        name=name,
        version=version,
        prefix=prefix,
        uri=store.uri(prefix),
        created=manifest["created"],
        kind=lineage["kind"],
        dataset=lineage["dataset"],
        protocol=lineage["protocol"],
        outcome=manifest["outcome"],
        metrics=lineage["metrics"],
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
