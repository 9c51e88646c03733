"""What is listed while housekeeping deletes: what goes between the listing and the reading is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from infra.exporter.facts import Drift
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tasks.datasets import list_datasets
from tests.tasks.stored import NAME, sealed

OLD, NEW = "0123456789ab-000000000000", "ffff456789ab-000000000000"


class Vanishing(LocalStore):
    """A store whose objects with `doomed` in their keys are deleted as soon as they have been listed."""

    doomed = ""

    def list(self, prefix: str = "") -> Iterator[str]:
        keys = list(super().list(prefix))
        for key in keys:
            if self.doomed and self.doomed in key:
                self.delete(key)
        yield from keys


def test_a_dataset_version_that_is_deleted_while_versions_are_listed_is_left_out(tmp_path: Path) -> None:
    store = Vanishing(tmp_path)
    facts = dict.fromkeys(("rows", "users", "items", "first", "last"), 1)
    for created, version in enumerate((OLD, NEW), 1):
        manifest = {**facts, "parents": [], "created": created, "format": 1}
        store.put(f"datasets/ml-100k/{version}/manifest.json", json.dumps(manifest).encode())
    assert [ref.version for ref in list_datasets(store)] == [OLD, NEW]
    store.doomed = OLD
    assert [ref.version for ref in list_datasets(store)] == [NEW]


def test_a_model_version_that_is_deleted_while_it_is_listed_is_left_out(tmp_path: Path) -> None:
    store = Vanishing(tmp_path / "store")
    registry, refs = ModelRegistry(store), [sealed(store, tmp_path / f"m{hour}", hour=hour) for hour in (1, 2)]
    store.doomed = refs[0].version
    assert registry.versions(NAME) == refs[1:]


def test_a_look_at_drift_that_is_deleted_while_it_is_listed_is_no_fact(tmp_path: Path) -> None:
    store = Vanishing(tmp_path)
    for dataset in ("one", "two"):
        store.put(f"drift/{dataset}/{OLD}/20260101T000000000000Z.json", b'{"verdict": "drifted"}')
    store.doomed = "drift/one/"
    assert {dict(sample.labels)["dataset"] for sample in Drift(store).samples()} == {"two"}


def test_only_what_is_still_there_is_read_of_what_was_listed(tmp_path: Path) -> None:
    """Decisions and answers about retrainings are read in this way."""
    store = Vanishing(tmp_path)
    for key in ("pages/a", "pages/b", "pages/c"):
        store.put(key, key.encode())
    store.doomed = "pages/b"
    assert list(store.listed(store.list("pages/"))) == [("pages/a", b"pages/a"), ("pages/c", b"pages/c")]
