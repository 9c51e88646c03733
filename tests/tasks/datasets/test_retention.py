from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from configs.errors import NotFoundError, VersionCorruptError
from configs.settings import DataSettings
from infra.leases import leased
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, list_datasets, plan_prune, prune_versions, verify_dataset, write_dataset
from tasks.datasets.retention import PrunePlan
from tasks.ingest import build_features, building, locate
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tests.tasks.landed import LAX, NAME, NOW, Place, csv, random_events


@pytest.fixture
def grown(tmp_path: Path) -> tuple[Place, list[DatasetRef]]:
    """A release, four increments, and a compaction after the second."""
    place = Place(tmp_path, base="newest")
    validated = validate(RawTables(random_events(0, 40, users=200), None, None, ()), LAX, int(NOW))
    refs = [write_dataset(place.store, NAME, validated, build_features(validated.interactions), {})]
    for number in range(1, 5):
        place.put(f"{number}.csv", random_events(number, 40, users=200))
        refs.append(place.land().dataset)
        if number == 2:
            refs.append(place.compact())
    return place, refs


def named(refs: list[DatasetRef]) -> list[str]:
    return [f"{ref.name}/{ref.version}" for ref in refs]


def pruned(store: LocalStore, keep: int) -> PrunePlan:
    plan = plan_prune(store, keep)
    prune_versions(store, plan)
    return plan


def test_old_versions_go_and_the_parts_of_the_others_stay(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    before = sorted(place.store.list())
    plan = plan_prune(place.store, 2)
    assert sorted(place.store.list()) == before, "planning deleted something"
    assert sorted(plan.versions) == sorted(named(refs[:4])) and set(plan.kept) == set(named(refs[4:]))
    prune_versions(place.store, plan)
    assert list_datasets(place.store) == refs[4:]
    for ref in refs[4:]:
        verify_dataset(place.store, ref)
    left = [key for key in place.store.list("datasets/")]
    assert sorted(set(before) - set(place.store.list())) == plan.objects
    assert not [key for key in left if key.startswith(refs[0].prefix)], "no version contains the release since the compaction"
    assert pruned(place.store, 2).objects == [] and place.land().dataset == refs[-1]


def ingest(place: Place, memory_rows: int) -> DatasetRef:
    """Store a release; `etl.memory_rows` decides its number of row groups."""
    path = place.folder / "ratings.csv"
    path.write_text(csv(random_events(0, 400, users=200).drop_duplicates(["user_id", "item_id"])))
    engine = place.engine.model_copy(update={"memory_rows": memory_rows})
    with building(locate(DataSettings(local_path=path)), LAX, engine, int(NOW)) as release:
        return write_dataset(place.store, NAME, release, release.features, {})


def test_a_release_that_newer_versions_contain_stays_and_is_never_rewritten(tmp_path: Path) -> None:
    place = Place(tmp_path, base="newest")
    release = ingest(place, 1000)
    place.put("1.csv", random_events(1, 40, users=200))
    ref = place.land().dataset
    before = place.store.get(f"{release.prefix}/interactions.parquet")
    plan = pruned(place.store, 1)
    assert plan.versions == [] and plan.kept[f"{NAME}/{release.version}"] == f"{NAME}/{ref.version} contains it"
    elsewhere = Place(tmp_path / "elsewhere")
    again = ingest(elsewhere, 100)
    assert again.version == release.version
    assert elsewhere.store.get(f"{again.prefix}/interactions.parquet") != before, (
        "the row groups make no difference, so this test shows nothing"
    )
    assert ingest(place, 100) == release
    assert place.store.get(f"{release.prefix}/interactions.parquet") == before
    verify_dataset(place.store, ref)
    folded = place.compact()
    assert sorted(pruned(place.store, 1).versions) == sorted(named([release, ref])) and list_datasets(place.store) == [folded]


class Busy(LocalStore):
    """A store in which another run commits just before the n-th listing of keys."""

    def __init__(self, folder: Path, number: int, commit: Callable[[], object]) -> None:
        super().__init__(folder)
        self.left, self.commit = number, commit

    def list(self, prefix: str = "") -> Iterator[str]:
        self.left -= 1
        if self.left == 0:
            self.commit()
        return super().list(prefix)


@pytest.mark.full
@pytest.mark.parametrize("steps", [["increment"], ["compaction"], ["increment", "compaction"]])
def test_data_that_lands_while_a_pruning_is_planned_loses_nothing(
    steps: list[str], grown: tuple[Place, list[DatasetRef]], tmp_path: Path
) -> None:
    place, refs = grown
    whole, moments = place.store.folder, 0

    def commit() -> None:
        if "increment" in steps:
            place.put("meanwhile.csv", random_events(7, 40, users=200))
            place.land()
        if "compaction" in steps:
            place.compact()

    while True:
        moments += 1
        place.store = LocalStore(shutil.copytree(whole, tmp_path / f"at{moments}"))
        busy = Busy(place.store.folder, moments, commit)
        pruned(busy, 1)
        if busy.left > 0:
            break
        left = list_datasets(place.store)
        for ref in left:
            verify_dataset(place.store, ref)
        assert left[-1].number == refs[-1].number + len(steps)
    assert moments > 5


@pytest.mark.parametrize("runs", [1, 2])
def test_a_version_whose_landing_was_killed_before_the_manifest_is_sealed_and_kept(runs: int, tmp_path: Path) -> None:
    place = Place(tmp_path)
    for number in range(runs):
        place.put(f"{number}.csv", random_events(number, 40, users=200))
        ref = place.land().dataset
    place.store.delete(f"{ref.prefix}/manifest.json")
    for key in place.store.list(f"landing/{NAME}/files/"):
        if key.endswith(f"/{runs:08d}.json"):
            place.store.delete(key)
    plan = pruned(place.store, 1)
    assert plan.kept == {f"{NAME}/{ref.version}": "the newest of its landing zone"} and list_datasets(place.store) == [ref]
    verify_dataset(place.store, ref)
    assert place.land().known == runs


def test_the_error_names_the_newest_version_if_its_manifest_is_lost(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    # All rows of this file are known, so its entry in the log comes without a new manifest.
    place.put("again.csv", csv(random_events(4, 40, users=200)) + "\n")
    assert place.land().dataset == refs[-1]
    place.store.delete(f"{refs[-1].prefix}/manifest.json")
    with pytest.raises(NotFoundError, match=rf"There is no dataset {NAME} version {refs[-1].version}"):
        plan_prune(place.store, 1)


@pytest.mark.parametrize(
    ("key", "record"),
    [
        ("models/ranker/v1/manifest.json", {"lineage": {"dataset": "{}"}}),
        ("models/ranker/v2/evaluation.json", {"dataset": "{}"}),  # not sealed yet
        ("promotions/ranker/00000001.json", {"decision": {"dataset": "{}"}}),
        ("searches/study/record.json", {"searched": [{"dataset": "{}"}]}),
        ("comparisons/id/comparison.json", {"facts": {"dataset": "{}"}}),
        ("audits/ranker/v1.json", {"dataset": {"name": NAME, "version": "{}"}}),
    ],
)
def test_a_version_that_any_record_names_stays_with_all_its_parts(
    key: str, record: dict[str, object], grown: tuple[Place, list[DatasetRef]]
) -> None:
    place, refs = grown
    wanted = refs[2]
    value = wanted.version if '"name"' in json.dumps(record) else f"{NAME}/{wanted.version}"
    place.store.put(key, json.dumps(record).replace("{}", value).encode())
    plan = pruned(place.store, 1)
    assert plan.kept[f"{NAME}/{wanted.version}"] == f"named by {key}"
    assert list_datasets(place.store) == [refs[0], wanted, refs[-1]], "the named version contains the release"
    for ref in (refs[0], wanted, refs[-1]):
        verify_dataset(place.store, ref)


def test_a_record_that_cannot_be_read_stops_all_deleting(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    place.store.put("models/ranker/v1/manifest.json", b"{")
    with pytest.raises(VersionCorruptError, match=r"v1/manifest\.json cannot be read as JSON.*nothing was deleted"):
        plan_prune(place.store, 1)
    assert list_datasets(place.store) == refs


def test_parts_of_a_run_under_way_stay_and_drift_reports_keep_no_version(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    under_way = f"datasets/{NAME}/parts/{refs[-1].number + 1:08d}-events-ab.parquet"
    left_behind = f"datasets/{NAME}/parts/{refs[-1].number:08d}-events-ab.parquet"
    place.store.put(under_way, b"x")
    place.store.put(left_behind, b"x")
    place.store.put(f"drift/{NAME}/x.json", json.dumps({"dataset": f"{NAME}/{refs[1].version}"}).encode())
    plan = pruned(place.store, 1)
    assert place.store.exists(under_way) and left_behind in plan.objects and f"{NAME}/{refs[1].version}" in plan.versions


def test_each_dataset_keeps_its_newest_version(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    validated = validate(RawTables(random_events(9, 40, users=200), None, None, ()), LAX, int(NOW))
    other = write_dataset(place.store, "other", validated, build_features(validated.interactions), {})
    pruned(place.store, 1)
    assert list_datasets(place.store) == [other, refs[-1]]


def test_a_version_that_a_run_uses_stays_even_if_the_run_began_after_the_plan(
    grown: tuple[Place, list[DatasetRef]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, refs = grown
    oldest, used = refs[0], refs[1]  # the increment contains the release
    with leased(place.store, "a training of ranker", [used.prefix]):
        plan = plan_prune(place.store, 1)
        assert plan.kept[f"{NAME}/{used.version}"].startswith("used by a training of ranker")
    plan = plan_prune(place.store, 1)
    assert set(named([oldest, used])) <= set(plan.versions)
    with leased(place.store, "a training of ranker", [used.prefix]):
        assert prune_versions(place.store, plan) == sorted(named([oldest, used]))
        for ref in (oldest, used):
            verify_dataset(place.store, ref)
    assert not [key for key in place.store.list() if key.endswith("pruned.json")]
    assert set(named([oldest, used])) <= set(pruned(place.store, 1).versions) and list_datasets(place.store) == refs[-1:]


def test_a_version_that_a_killed_pruning_marked_but_is_now_kept_can_be_used_again(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    place.store.put(f"{refs[-1].prefix}/pruned.json", b"{}")
    pruned(place.store, 1)
    with leased(place.store, "a training of ranker", [refs[-1].prefix]):
        verify_dataset(place.store, refs[-1])


def test_the_dataset_of_a_promoted_version_goes_once_that_version_is_pruned(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    entry = {"name": "ranker", "version": "v1", "decision": {"dataset": f"{NAME}/{refs[1].version}"}}
    place.store.put("promotions/ranker/00000001.json", json.dumps(entry).encode())
    place.store.put("models/ranker/v1/manifest.json", b"{}")
    assert f"{NAME}/{refs[1].version}" in plan_prune(place.store, 1).kept
    place.store.delete("models/ranker/v1/manifest.json")  # as `recsys model prune` does
    assert f"{NAME}/{refs[1].version}" in plan_prune(place.store, 1).versions
