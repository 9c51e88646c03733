"""Plan what goes, over all areas, and delete it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from configs.settings import LandingSettings, RetentionSettings
from infra.pages import count
from infra.storage import Store
from tasks.datasets import PrunePlan, plan_prune, prune_versions
from tasks.export import old_exports
from tasks.gate import ModelPrunePlan, plan_model_prune, prune_models
from tasks.retention.dated import dated_objects

__all__ = ["Gone", "RetentionPlan", "apply_retention", "plan_retention"]


@dataclass(frozen=True)
class Gone:
    """What goes in one area, and which rule decides it."""

    area: str
    number: int
    what: str
    rule: str  # what stays


@dataclass(frozen=True)
class RetentionPlan:
    """What would go. Nothing else is deleted."""

    models: dict[str, ModelPrunePlan]  # by name
    datasets: PrunePlan
    dated: dict[str, list[str]]  # keys by area
    exports: list[str]  # keys in the place of the exports

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def rows(self, settings: RetentionSettings, landing: LandingSettings) -> list[Gone]:
        """Return one row for each area, whether or not something goes."""
        versions = sum(len(plan.versions) + len(plan.unsealed) for plan in self.models.values())
        pages = sum(len(plan.pages) for plan in self.models.values())
        folders = sum(len(plan.folders) for plan in self.models.values())
        days, newest = f"{settings.keep_days} days", f"the newest {settings.keep_versions}, champions, and what is used"
        return [
            Gone("models", versions, "versions", newest),
            Gone(
                "datasets",
                len(self.datasets.versions),
                "versions",
                f"the newest {landing.keep_versions}, and what is referred to",
            ),
            Gone("pages of drift and of answers", pages, "pages", f"the newest {settings.keep_pages} of each subject"),
            Gone("figures of drift", self._number("drift/"), "objects", f"{days}, and the newest {settings.keep_pages}"),
            Gone("answers about retrainings", self._number("due/"), "objects", f"{days}, and the newest {settings.keep_pages}"),
            Gone("exposures", self._number("exposures/"), "files", days),
            Gone("outcomes", self._number("outcomes/"), "files", days),
            Gone("rollouts", self._number("rollouts/"), "objects", f"{days}, and what is under way"),
            Gone("exports", len(self.exports), "files", f"the newest {settings.keep_exports} of each model"),
            Gone("run folders in work_dir", folders, "folders", f"the newest {settings.keep_runs}"),
        ]

    def _number(self, area: str) -> int:
        return len(self.dated.get(area, ()))

    @property
    def said(self) -> str:
        """The plan in a few words."""
        versions = sum(len(plan.versions) + len(plan.unsealed) for plan in self.models.values())
        objects = sum(map(len, self.dated.values())) + sum(len(plan.pages) for plan in self.models.values()) + len(self.exports)
        return f"{count(versions, 'model version')}, {count(len(self.datasets.versions), 'dataset version')} and {count(objects, 'file')}"


def plan_retention(
    store: Store,
    settings: RetentionSettings,
    landing: LandingSettings,
    now: datetime,
    *,
    exports: Store | None = None,
    work_dir: Path,
    served: Mapping[str, str] | None = None,
) -> RetentionPlan:
    """Plan what goes from a store, from the place of the exports and from the folder of the runs.

    What a version needed goes with the next plan: a dataset is referred to as long as a model that was trained on it is stored.

    Args:
        store: The store.
        settings: How much is kept.
        landing: Has the number of dataset versions that are kept.
        now: The time.
        exports: Place of the exports. None leaves them out.
        work_dir: Folder with local run folders.
        served: Model versions that servers need, and why (`tasks.gate.served_versions`).

    Raises:
        VersionCorruptError: A record cannot be read, so what it refers to is unknown.
    """
    names = sorted({key.split("/")[1] for key in store.list("models/")})
    models: dict[str, ModelPrunePlan] = {}
    for name in names:
        plan = plan_model_prune(store, name, settings, served or {}, work_dir)
        models[name] = replace(plan, pages=[], folders=[]) if models else plan  # those are of the store, not of one model
    datasets = plan_prune(store, landing.keep_versions)
    old = [] if exports is None else old_exports(exports, settings.keep_exports, now)
    return RetentionPlan(models, datasets, dated_objects(store, settings, now), old)


def apply_retention(
    store: Store,
    plan: RetentionPlan,
    settings: RetentionSettings,
    *,
    exports: Store | None = None,
    served: Mapping[str, str] | None = None,
) -> list[str]:
    """Delete what is planned, except what has come into use since, and return that. A killed deletion is completed by the next one."""
    spared: list[str] = []
    for model in plan.models.values():
        spared += prune_models(store, model, settings, served or {})
    spared += prune_versions(store, plan.datasets)
    for keys in plan.dated.values():
        _delete(store, keys)
    if exports is not None:
        _delete(exports, plan.exports)
    return spared


def _delete(store: Store, keys: Iterable[str]) -> None:
    for key in keys:
        store.delete(key)
