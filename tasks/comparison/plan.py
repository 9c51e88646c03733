"""What a comparison consists of: its dataset version and protocol, which are stored when it starts, and its runs.

A comparison is stored under `comparisons/<id>/`. `comparison.json` holds the facts that its runs have in common.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from datetime import UTC, datetime

from configs.errors import AlreadyExistsError, NotFoundError, SettingsError
from configs.studies import CompareSettings, EntrySettings
from infra.digests import sha256_of_json
from infra.registry import git_commit
from infra.storage import Store
from tasks.comparison.runs import checkpoints_of, model_settings
from tasks.comparison.stored_runs import read_json, read_record
from tasks.datasets import DatasetRef

__all__ = ["begin_comparison", "missing_runs", "pinned_dataset", "runs_of"]


def begin_comparison(store: Store, dataset: DatasetRef, settings: CompareSettings) -> str:
    """Store the dataset version and protocol of the comparison, and return its id.

    Raises:
        SettingsError: A comparison with this id has another dataset version or protocol.
    """
    facts = {
        "dataset": f"{dataset.name}/{dataset.version}",
        "protocol": settings.evaluation.protocol_id_for(dataset.properties.repeats),
    }
    comparison = settings.id or _content_id(facts, settings)
    created = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    try:
        store.put_new(
            f"comparisons/{comparison}/comparison.json", json.dumps({"format": 1, "created": created, **facts}).encode()
        )
    except AlreadyExistsError:
        stored = read_json(store, f"comparisons/{comparison}/comparison.json")
        for name, value in facts.items():
            if stored.get(name) != value:
                raise SettingsError(
                    f"The comparison {comparison} was started with the {name} {stored.get(name)}, but this run has {value}: "
                    "their figures cannot be compared. Use the original value, or give this comparison another id."
                ) from None
    return comparison


def pinned_dataset(store: Store, settings: CompareSettings) -> str | None:
    """The dataset version `name/version` from the settings or the stored comparison with this id, or None if neither has one."""
    if settings.dataset is not None or settings.id is None:
        return settings.dataset
    try:
        return str(read_json(store, f"comparisons/{settings.id}/comparison.json")["dataset"])
    except NotFoundError:
        return None


def runs_of(settings: CompareSettings) -> list[tuple[EntrySettings, int]]:
    """Entry and seed of each run of the comparison."""
    return [(entry, seed) for entry in settings.entries for seed in settings.seeds_of(entry)]


def missing_runs(store: Store, comparison: str, settings: CompareSettings) -> list[tuple[EntrySettings, int]]:
    """Return the runs that are not stored yet.

    Checkpoints of stored runs are deleted: a run that was killed right after it was stored leaves them behind.

    Raises:
        SettingsError: A stored run used other settings for its model.
    """
    missing = []
    for entry, seed in runs_of(settings):
        try:
            stored = read_record(store, comparison, entry.name, seed)
        except NotFoundError:
            missing.append((entry, seed))
            continue
        shutil.rmtree(checkpoints_of(settings, comparison, entry, seed), ignore_errors=True)
        before, now = stored.plan.settings["model"], model_settings(entry)
        changed = [f"{name} {before[name]}, now {now[name]}" for name in now if name in before and before[name] != now[name]]
        if stored.plan.kind != entry.kind:
            changed = [f"kind {stored.plan.kind}, now {entry.kind}"]
        if changed:
            raise SettingsError(
                f"{entry.name} of the comparison {comparison} was run with other settings ({'; '.join(changed)}). Give the entry "
                "another name, or give the comparison another id."
            )
    return missing


def _content_id(facts: dict[str, str], settings: CompareSettings) -> str:
    """Hash everything that determines the figures into 12 hex digits.

    Seeds are left out, so a run with more seeds extends the same comparison.
    """
    entries = {entry.name: [entry.kind, model_settings(entry)] for entry in settings.entries}
    code = git_commit() or importlib.metadata.version("movielens-recsys")
    return sha256_of_json([facts, entries, code])[:12]
