"""Reads a store for the demo: versions, what they were made from and tested on, decisions, promotions and drift."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from configs.errors import NotFoundError
from infra.registry import PAGE, ModelRef, ModelRegistry, Promotion, read_json
from infra.storage import Store
from serving.demo.held_out import EvaluatedRequests

__all__ = ["DriftRecord", "StoreView"]


@dataclass(frozen=True)
class DriftRecord:
    """One measurement of drift."""

    dataset: str  # name/version
    when: datetime
    result: dict[str, Any]
    page: str | None  # key of the page


class StoreView:
    """A read-only view of a store and of one model name in it."""

    def __init__(self, store: Store, model_name: str) -> None:
        self.store, self.model_name, self._registry = store, model_name, ModelRegistry(store)

    def versions(self) -> tuple[list[ModelRef], dict[str, str]]:
        """Return the sealed versions, newest first, and those with a damaged manifest, with the reason."""
        damaged: dict[str, str] = {}
        return self._registry.versions(self.model_name, damaged)[::-1], damaged

    def promotions(self) -> list[Promotion]:
        """Return the promotion log, oldest first."""
        return self._registry.history(self.model_name)

    def json_of(self, ref: ModelRef, name: str) -> dict[str, Any] | None:
        """Return a JSON file of the version, or None if it has none. Raises VersionCorruptError if the file was edited."""
        content = self._registry.read_file(ref, name)
        if content is None:
            return None
        found: dict[str, Any] = read_json(content, self.store.uri(f"{ref.prefix}/{name}"))
        return found

    def page_key(self, ref: ModelRef) -> str | None:
        """Return the key of the page of the gate's decision, or None if there is none."""
        key = f"{ref.prefix}/{PAGE}"
        return key if self.store.exists(key) else None

    def page_of(self, ref: ModelRef) -> str | None:
        """Return the HTML page of the gate's decision, or None if there is none. Raises VersionCorruptError if it was edited."""
        content = self._registry.read_file(ref, PAGE)
        return None if content is None else content.decode()

    def drift(self) -> list[DriftRecord]:
        """Return the drift measurements of this model, oldest first. Early ones do not say which model they are of."""
        keys = set(self.store.list("drift/"))
        found = []
        for key in sorted(key for key in keys if key.endswith(".json")):
            _, name, version, stamp = key.removesuffix(".json").split("/")
            page = key.removesuffix(".json") + ".html"
            result = read_json(self.store.get(key), self.store.uri(key))
            if result.get("model_name") in (None, "", self.model_name):
                found.append(DriftRecord(f"{name}/{version}", _time_of(stamp), result, page if page in keys else None))
        return sorted(found, key=lambda record: record.when)

    def evaluated(self, ref: ModelRef) -> EvaluatedRequests | None:
        """Return the test requests of a version, or None if it stores none. Raises VersionCorruptError if they were edited."""
        content = self._registry.read_file(ref, "ranks.parquet")
        if content is None:
            return None
        return EvaluatedRequests.read(content, self.lineage(ref)["settings"].get("evaluation", {}))

    def lineage(self, ref: ModelRef) -> dict[str, Any]:
        """Return what a version was made from: settings, time, cost, hardware. Raises VersionCorruptError if it was edited."""
        found: dict[str, Any] = self._registry.manifest(ref.name, ref.version)["lineage"]
        return found

    def decision(self, ref: ModelRef) -> dict[str, Any]:
        """Return the newest decision on a version. Raises VersionCorruptError if it was edited."""
        later = self._registry.later_decisions(ref.name, ref.version)
        return later[-1][1] if later else self._registry.decision(ref)

    def dataset(self, dataset: str) -> dict[str, Any] | None:
        """Return the manifest of a dataset version `name/version`, or None if the store no longer has it."""
        key = f"datasets/{dataset}/manifest.json"
        try:
            return dict(read_json(self.store.get(key), self.store.uri(key)))
        except NotFoundError:
            return None

    def newest_dataset(self, name: str) -> tuple[str, dict[str, Any]] | None:
        """Return the dataset version of this name that was made last, as `name/version`, with its manifest."""
        keys = [key for key in self.store.list(f"datasets/{name}/") if key.endswith("/manifest.json")]
        versions = [key.removeprefix("datasets/").removesuffix("/manifest.json") for key in keys]
        found = [(version, manifest) for version in versions if (manifest := self.dataset(version)) is not None]
        return max(found, key=lambda each: (each[1].get("number", 0), each[1].get("created", 0.0)), default=None)

    @cached_property
    def place(self) -> str:
        return self.store.uri("").rstrip("/")


def _time_of(stamp: str) -> datetime:
    """Parse the time in the last part of a key, `YYYYMMDDTHHMMSS...Z`."""
    return datetime.strptime(stamp[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
