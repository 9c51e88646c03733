from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import VersionCorruptError
from infra.stores import LocalStore
from tasks.datasets import DatasetRef, list_datasets, verify_dataset, write_dataset
from tasks.features import build_features
from tasks.movielens import RawTables
from tasks.retention import PrunePlan, plan_prune, prune
from tasks.validate import validate
from tests.tasks.landed import LAX, NAME, NOW, Place, random_events


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
    prune(store, plan)
    return plan


def test_what_is_old_goes_and_what_the_rest_is_made_of_stays(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    before = sorted(place.store.list())
    plan = plan_prune(place.store, 2)
    assert sorted(place.store.list()) == before, "planning deleted something"
    assert sorted(plan.versions) == sorted(named(refs[:4])) and set(plan.kept) == set(named(refs[4:]))
    prune(place.store, plan)
    assert list_datasets(place.store) == refs[4:]
    for ref in refs[4:]:
        verify_dataset(place.store, ref)
    left = [key for key in place.store.list("datasets/")]
    assert sorted(set(before) - set(place.store.list())) == plan.objects
    assert not [key for key in left if key.startswith(refs[0].prefix)], "the release is part of nothing since the compaction"
    assert pruned(place.store, 2).objects == [] and place.land().dataset == refs[-1]


def test_a_release_that_newer_versions_are_made_of_keeps_its_events(tmp_path: Path) -> None:
    place = Place(tmp_path, base="newest")
    validated = validate(RawTables(random_events(0, 40, users=200), None, None, ()), LAX, int(NOW))
    release = write_dataset(place.store, NAME, validated, build_features(validated.interactions), {})
    place.put("1.csv", random_events(1, 40, users=200))
    ref = place.land().dataset
    assert pruned(place.store, 1).versions == [f"{NAME}/{release.version}"]
    assert [key for key in place.store.list(f"{release.prefix}/")] == [f"{release.prefix}/interactions.parquet"]
    verify_dataset(place.store, ref)


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
def test_what_anything_refers_to_stays_with_all_its_parts(
    key: str, record: dict[str, object], grown: tuple[Place, list[DatasetRef]]
) -> None:
    place, refs = grown
    wanted = refs[2]
    value = wanted.version if '"name"' in json.dumps(record) else f"{NAME}/{wanted.version}"
    place.store.put(key, json.dumps(record).replace("{}", value).encode())
    plan = pruned(place.store, 1)
    assert plan.kept[f"{NAME}/{wanted.version}"] == f"named by {key}"
    assert list_datasets(place.store) == [wanted, refs[-1]]
    for ref in (wanted, refs[-1]):
        verify_dataset(place.store, ref)


def test_a_record_that_cannot_be_read_stops_all_deleting(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    place.store.put("models/ranker/v1/manifest.json", b"{")
    with pytest.raises(VersionCorruptError, match=r"v1/manifest\.json cannot be read as JSON.*none is deleted"):
        plan_prune(place.store, 1)
    assert list_datasets(place.store) == refs


def test_parts_of_a_run_that_is_under_way_and_reports_on_data_are_no_concern(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    under_way = f"datasets/{NAME}/parts/{refs[-1].number + 1:08d}-events-ab.parquet"
    left_behind = f"datasets/{NAME}/parts/{refs[-1].number:08d}-events-ab.parquet"
    place.store.put(under_way, b"x")
    place.store.put(left_behind, b"x")
    place.store.put(f"drift/{NAME}/x.json", json.dumps({"dataset": f"{NAME}/{refs[1].version}"}).encode())
    plan = pruned(place.store, 1)
    assert place.store.exists(under_way) and left_behind in plan.objects and f"{NAME}/{refs[1].version}" in plan.versions


def test_each_dataset_keeps_its_own_newest(grown: tuple[Place, list[DatasetRef]]) -> None:
    place, refs = grown
    validated = validate(RawTables(random_events(9, 40, users=200), None, None, ()), LAX, int(NOW))
    other = write_dataset(place.store, "other", validated, build_features(validated.interactions), {})
    pruned(place.store, 1)
    assert list_datasets(place.store) == [other, refs[-1]]
