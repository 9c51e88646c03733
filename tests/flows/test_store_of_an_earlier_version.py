"""A store that version 0.1 wrote works as if the present version had written it.

tests/data/store-0.1.tar.gz holds two promoted versions, a release of 1,600 events, and two runs over a landing zone. Its tables call
an item's id movie_id, and its settings have former names.
"""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from configs.serving import RuleFile
from configs.settings import DriftSettings, EtlSettings, LandingSettings, MonitoringSettings, RetrainSettings, ValidationSettings
from flows.retrain import retrain
from infra.landing_zone import FolderZone
from infra.registry import ModelRegistry
from infra.storage import open_store
from infra.storage.local import LocalStore
from models.columns import Columns
from serving.engine import ServedModel
from serving.reranking import Rules
from tasks.datasets import DatasetRef, Removal, list_datasets, plan_prune, read_table, verify_dataset
from tasks.gate import gate_settings, judge_sealed
from tasks.landing import LandingOptions, land, remove
from tasks.monitoring import monitor_dataset
from tests.flows.conftest import LEAN

ARCHIVE = Path(__file__).parents[1] / "data" / "store-0.1.tar.gz"
NAME = "movie-ranker"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return LocalStore(tmp_path / "store")


def newest(store: LocalStore) -> DatasetRef:
    return max(list_datasets(store), key=lambda ref: ref.number)


def test_its_tables_have_the_present_columns_and_its_versions_keep_their_names(store: LocalStore) -> None:
    versions = list_datasets(store)
    assert sorted(ref.number for ref in versions) == [0, 1, 2]
    for ref in versions:
        verify_dataset(store, ref)
        events, features = read_table(store, ref, "interactions"), read_table(store, ref, "features")
        assert tuple(events.columns) == Columns.INTERACTION and tuple(features.columns) == Columns.FEATURE
        assert len(events) == ref.rows == len(features) and events[Columns.ITEM].nunique() == ref.items
        assert list(read_table(store, ref, "items", [Columns.ITEM, Columns.TITLE]).columns) == [Columns.ITEM, Columns.TITLE]
    kept = plan_prune(store, 1).kept
    assert {f"{ref.name}/{ref.version}" for ref in versions if ref.number < 2} <= set(kept), (
        "a version on which a model was trained would be pruned"
    )


def test_its_promotion_log_is_valid_and_its_champion_is_judged_again_and_monitored(store: LocalStore) -> None:
    registry = ModelRegistry(store)
    assert sorted(entry.number for entry in registry.history(NAME)) == [1, 2]
    found = registry.champion_ref(NAME)
    assert found is not None
    champion, _ = found
    settings = gate_settings(store, champion)
    assert settings.max_retries_on_conflict == 2, "the former name `races` of a recorded setting was not read"
    again = judge_sealed(store, champion, settings)
    assert {rule.name: rule.verdict for rule in again.rules}["loads and answers as trained"] == "passed"
    watched = monitor_dataset(store, newest(store), NAME, DriftSettings(), MonitoringSettings(evidently=False))
    assert watched.result.checks


def test_its_champion_is_served(store: LocalStore, tmp_path: Path) -> None:
    registry = ModelRegistry(store)
    promotion = registry.champion(NAME)
    assert promotion is not None
    folder = registry.fetch(registry.version(NAME, promotion.version), tmp_path / "served")
    model = ServedModel.load(folder, promotion.version, promotion.number, 100)
    assert model.check_samples(folder) > 0 and all(title for title in model.catalogue.titles)
    rules = RuleFile.model_validate({"rules": [{"name": "old", "action": "pin", "movies": [int(model.catalogue.item_ids[0])]}]})
    assert not Rules(rules).unknown(model.catalogue)


def test_its_descriptions_are_merged_by_column_and_a_user_is_removed(store: LocalStore, tmp_path: Path) -> None:
    before = newest(store)
    items, events = read_table(store, before, "items"), read_table(store, before, "interactions")
    described = items[items["genres"] != ""].iloc[0]
    (tmp_path / "zone").mkdir()
    (tmp_path / "zone" / "titles.csv").write_text(f"movieId,title\n{described[Columns.ITEM]},Another Title\n")
    options = LandingOptions(
        ValidationSettings(min_rows=1), LandingSettings(settle_s=0.0), EtlSettings(work_dir=tmp_path), time.time()
    )
    landed = land(store, FolderZone(tmp_path / "zone"), before.name, options).dataset
    row = read_table(store, landed, "items").set_index(Columns.ITEM).loc[described[Columns.ITEM]]
    assert row["title"] == "Another Title" and row["genres"] == described["genres"]
    user = int(events[Columns.USER].iloc[0])
    without, _ = remove(store, before.name, Removal("asked", "me", user), options.landing, tmp_path, time.time())
    verify_dataset(store, without)
    assert without.rows == before.rows - int((events[Columns.USER] == user).sum())


@pytest.mark.full
def test_a_retraining_adds_a_landed_file_and_judges_the_result_against_its_champion(store: LocalStore, tmp_path: Path) -> None:
    before, registry = newest(store), ModelRegistry(store)
    events = read_table(store, before, "interactions")
    latest = int(events[Columns.TIME].max())
    zone = tmp_path / "zone"
    zone.mkdir()
    (zone / "c.csv").write_text(
        "user_id,item_id,rating,timestamp\n" + "".join(f"{user},{900 + user % 3},4,{latest + user}\n" for user in range(1, 61))
    )
    os.utime(zone / "c.csv", (latest, latest))
    settings = RetrainSettings.model_validate(
        {
            **LEAN,
            "data": {"dataset": "golden", "landing": str(zone)},
            "store": {"url": f"file:{store.folder}"},
            "work_dir": str(tmp_path / "work"),
            "etl": {"work_dir": str(tmp_path / "etl")},
        }
    )
    champion = registry.champion(NAME)
    assert champion is not None
    summary = retrain(settings)
    assert summary.dataset.number > before.number and summary.dataset.rows == before.rows + 60
    verify_dataset(open_store(settings.store), summary.dataset)
    added = read_table(store, summary.dataset, "interactions")
    assert set(added[Columns.ITEM].to_numpy()) - set(events[Columns.ITEM].to_numpy()) == {900, 901, 902}
    assert summary.decision.champion == champion.version
    assert np.isfinite(list(summary.decision.metrics["champion"].values())).all()
