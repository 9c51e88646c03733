"""Prune model versions, drift pages and local run folders.

A version goes with the decisions on it, the records of its runs and its audits. The promotion log stays whole.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from configs.serving import ExperimentFile
from configs.settings import RetentionSettings
from infra.leases import TOMBSTONE, expired_leases, leases
from infra.registry import ModelRegistry, previous_champions
from infra.storage import Store

__all__ = ["ModelPrunePlan", "plan_model_prune", "prune_models", "served_versions"]

BELONGS = ("models", "decisions", "runs", "audits")  # folders of a version's objects, each as <folder>/<name>/<version>/
UNFINISHED = timedelta(days=1)  # no run takes as long from staging to sealing, or between two writes to its local folder
TIME = "%Y%m%dT%H%M%SZ"
VERSION = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{32}")
RUN = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-.+")


@dataclass(frozen=True)
class ModelPrunePlan:
    """What a prune of one model would delete, and why the rest is kept."""

    name: str
    kept: dict[str, str]  # version -> why
    versions: list[str]
    unsealed: list[str]  # versions that a killed run never sealed, or that a killed prune left
    pages: list[str]  # keys of pages of drift, and of answers to whether a retraining is due
    passing: list[str]  # keys of expired leases, and of marks on versions that are kept
    folders: list[str]  # local run folders

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def served_versions(files: Iterable[ExperimentFile]) -> dict[str, str]:
    """Return the versions that experiments and shadows of these files name, and where they are named."""
    found: dict[str, str] = {}
    for file in files:
        for experiment in file.experiments:
            for arm in experiment.arms:
                found.setdefault(arm.version, f"in the experiment {experiment.name}")
        for shadow in file.shadow:
            found.setdefault(shadow.version, "a shadow")
    return found


def plan_model_prune(
    store: Store, name: str, settings: RetentionSettings, served: Mapping[str, str], work_dir: Path
) -> ModelPrunePlan:
    """Plan which versions of a model, drift pages and local run folders to delete.

    Args:
        store: Store of the versions.
        name: Name of the model.
        settings: How much is kept.
        served: Versions that servers need, and why (`served_versions`).
        work_dir: Folder with the local run folders.

    Raises:
        VersionCorruptError: The promotion log is damaged, so the earlier champions are unknown.
    """
    found = sorted({key.split("/")[2] for key in store.list(f"models/{name}/")})
    sealed = [version for version in found if store.exists(f"models/{name}/{version}/manifest.json")]
    kept = _in_use(store, name, settings, served)
    for version in sealed[-settings.keep_versions :]:
        kept.setdefault(version, f"among the newest {settings.keep_versions}")
    marked = {key.split("/")[2] for key in store.list(f"models/{name}/") if key.endswith(f"/{TOMBSTONE}")}
    return ModelPrunePlan(
        name,
        {version: kept[version] for version in sealed if version in kept},
        [version for version in sealed if version not in kept],
        [each for each in found if each not in {*sealed, *kept} and (each in marked or _is_old(each))],
        sorted(_old_pages(store, settings.keep_pages)),
        [*expired_leases(store), *(f"models/{name}/{version}/{TOMBSTONE}" for version in sorted(marked & kept.keys()))],
        _old_runs(work_dir / "wandb", settings.keep_runs),
    )


def prune_models(store: Store, plan: ModelPrunePlan, settings: RetentionSettings, served: Mapping[str, str]) -> list[str]:
    """Delete what is planned, except versions that have come into use since, and return those.

    A version's manifest is deleted before its other objects. If a run is killed, the next prune completes it.
    """
    going = [*plan.versions, *plan.unsealed]
    for version in going:
        store.put(f"models/{plan.name}/{version}/{TOMBSTONE}", b"{}")
    # After the tombstones were written: a run or a promotion that this look misses finds one.
    spared = _in_use(store, plan.name, settings, served).keys() & set(going)
    for version in going:
        tombstone = f"models/{plan.name}/{version}/{TOMBSTONE}"
        if version not in spared:
            store.delete(f"models/{plan.name}/{version}/manifest.json")
            for key in [key for folder in BELONGS for key in store.list(f"{folder}/{plan.name}/{version}/") if key != tombstone]:
                store.delete(key)
        store.delete(tombstone)
    for key in (*plan.pages, *plan.passing):
        store.delete(key)
    for folder in plan.folders:
        shutil.rmtree(folder, ignore_errors=True)
    return sorted(spared)


def _in_use(store: Store, name: str, settings: RetentionSettings, served: Mapping[str, str]) -> dict[str, str]:
    """Return the versions that must stay however old they are, and why."""
    entries = ModelRegistry(store).history(name)
    kept = {entries[-1].version: "the champion"} if entries else {}
    for version in previous_champions(entries)[: settings.keep_champions]:
        kept.setdefault(version, f"among the last {settings.keep_champions} champions before it")
    stored = {key.split("/")[2] for key in store.list(f"models/{name}/")} if served else set()
    for asked, why in served.items():  # the beginning of a name that fits several versions keeps all of them
        for version in (asked, *(each for each in stored if each.startswith(asked))):
            kept.setdefault(version, why)
    for prefix, lease in leases(store).items():
        if prefix.startswith(f"models/{name}/"):
            kept.setdefault(prefix.rpartition("/")[2], lease.said)
    return kept


def _is_old(version: str) -> bool:
    """Return whether the run that staged a version cannot be under way any more."""
    match = VERSION.fullmatch(version)
    return match is not None and datetime.strptime(match[1], TIME).replace(tzinfo=UTC) < datetime.now(UTC) - UNFINISHED


def _old_pages(store: Store, keep: int) -> Iterator[str]:
    """Yield the pages of all drift measurements but the newest of each dataset, and of all answers but the newest about each model."""
    stamps: dict[str, set[str]] = {}
    pages: list[tuple[str, str, str]] = []
    for folder in ("drift/", "due/"):
        for key in store.list(folder):
            subject, (stamp, _, kind) = "/".join(key.split("/")[:2]), key.rpartition("/")[2].partition(".")
            stamps.setdefault(subject, set()).add(stamp)
            if kind in ("html", "evidently.html"):
                pages.append((subject, stamp, key))
    newest = {subject: set(sorted(found, reverse=True)[:keep]) for subject, found in stamps.items()}
    yield from (key for subject, stamp, key in pages if stamp not in newest[subject])


def _old_runs(folder: Path, keep: int) -> list[str]:
    """Return all run folders but the newest. A folder that a run may still write to is left out."""
    runs = sorted(((match[1], path) for path in folder.glob("*run-*") if (match := RUN.fullmatch(path.name))), reverse=True)
    before = (datetime.now(UTC) - UNFINISHED).timestamp()
    return sorted(str(path) for _, path in runs[keep:] if path.is_dir() and path.stat().st_mtime < before)
