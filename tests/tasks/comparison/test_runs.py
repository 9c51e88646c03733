from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.errors import ComparisonError, NotFoundError, SettingsError, VersionCorruptError
from configs.studies import CompareSettings
from infra.storage import open_store
from models.evaluation import metrics
from models.recommender import EpochReport
from tasks.comparison import begin_comparison, compare_runs, missing_runs, pinned_dataset, read_record
from tasks.comparison.runs import run_entry
from tasks.comparison.stored_runs import read_run, refuse_other_requests
from tasks.datasets import DatasetRef
from tests.tasks.compared import ENTRIES, TINY_NCF, small_comparison, stored_dataset


def do(settings: CompareSettings, dataset: DatasetRef) -> list[str]:
    """Do the missing runs, and return their names."""
    store, done = open_store(settings.store), []
    comparison = begin_comparison(store, dataset, settings)
    for entry, seed in missing_runs(store, comparison, settings):
        run_entry(store, comparison, entry, seed, dataset, settings)
        done.append(f"{entry.name}-{seed}")
    return done


def test_a_run_is_stored_whole_and_a_comparison_does_only_what_is_missing(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=ENTRIES[:2], reference="ncf", hourly_price=3.6)
    dataset, store = stored_dataset(settings), open_store(settings.store)
    assert do(settings, dataset) == ["popularity-1", "ncf-1"]
    run = read_run(store, "small", "ncf", 1)
    record = run.record
    assert record.metrics == metrics(run.ranks, settings.evaluation.ks) and record.requests == len(run.ranks) == 60
    assert record.intervals["ndcg@10"][0] <= record.metrics["ndcg@10"] <= record.intervals["ndcg@10"][1]
    assert [report.epoch for report in record.epochs] == [1, 2] and record.epochs[1].valid["ndcg@10"] > 0
    assert record.cost == pytest.approx(record.seconds / 1000, abs=1e-5)
    assert record.plan.settings["model"]["mf_width"] == 8 and record.plan.dataset == f"ml-100k/{dataset.version}"
    assert not (settings.work_dir / "comparisons" / "small" / "ncf-1").exists()

    before = {key: store.get(key) for key in store.list("comparisons/")}
    assert do(settings, dataset) == []
    more = settings.model_copy(update={"seeds": (1, 2)})
    assert do(more, dataset) == ["ncf-2"]
    assert {key: store.get(key) for key in before} == before, "a run was written again"
    found = compare_runs(store, "small", dataset, [], more)
    assert {entry.name: entry.seeds for entry in found.entries} == {"popularity": [1], "ncf": [1, 2]}
    ncf = next(entry for entry in found.entries if entry.name == "ncf")
    each = [read_record(store, "small", "ncf", seed).metrics["ndcg@10"] for seed in (1, 2)]
    assert ncf.metrics["ndcg@10"].mean == pytest.approx(np.mean(each))
    assert ncf.metrics["ndcg@10"].spread == pytest.approx(np.std(each, ddof=1))
    assert ncf.cost == pytest.approx(ncf.total_seconds / 1000, abs=1e-5)


def test_a_run_that_was_killed_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    whole = small_comparison(tmp_path / "whole", entries=ENTRIES[:2], reference="ncf")
    killed = small_comparison(tmp_path / "killed", entries=ENTRIES[:2], reference="ncf")
    do(whole, stored_dataset(whole))
    dataset, store = stored_dataset(killed), open_store(killed.store)
    begin_comparison(store, dataset, killed)

    def kill(report: EpochReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_entry(store, "small", killed.entry("ncf"), 1, dataset, killed, kill)
    with pytest.raises(NotFoundError):
        read_record(store, "small", "ncf", 1)
    assert do(killed, dataset) == ["popularity-1", "ncf-1"]
    runs = [read_run(open_store(settings.store), "small", "ncf", 1) for settings in (whole, killed)]
    assert runs[1].record.resumed_from == 1 and np.array_equal(runs[0].ranks, runs[1].ranks)
    assert [report.epoch for report in runs[1].record.epochs] == [1, 2]


def test_ranks_that_no_record_seals_are_written_again(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=ENTRIES[:2], reference="ncf")
    dataset, store = stored_dataset(settings), open_store(settings.store)
    store.put_new("comparisons/small/runs/popularity-1.parquet", b"left by a writer that was killed")
    do(settings, dataset)
    assert len(read_run(store, "small", "popularity", 1).ranks) == 60


def test_stored_runs_are_never_mixed_with_others(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=ENTRIES[:2], reference="ncf")
    dataset, store = stored_dataset(settings), open_store(settings.store)
    do(settings, dataset)
    slower = small_comparison(
        tmp_path, entries=[ENTRIES[0], {**ENTRIES[1], "settings": {**TINY_NCF, "learning_rate": 0.001}}], reference="ncf"
    )
    with pytest.raises(
        SettingsError, match=r"ncf of the comparison small was run with other settings \(learning_rate 0.005, now 0.001"
    ):
        missing_runs(store, "small", slower)
    swapped = small_comparison(
        tmp_path, entries=[{"name": "ncf", "kind": "popularity"}, {"name": "x", "kind": "popularity"}], reference="x"
    )
    with pytest.raises(SettingsError, match="kind ncf, now popularity"):
        missing_runs(store, "small", swapped)
    newer = stored_dataset(settings, seed=1)
    with pytest.raises(
        SettingsError, match=rf"started with the dataset ml-100k/{dataset.version}, but this run has ml-100k/{newer.version}"
    ):
        begin_comparison(store, newer, settings)
    temporal = small_comparison(tmp_path, evaluation={"protocol": "temporal"})
    with pytest.raises(SettingsError, match="started with the protocol loo-exact, but this run has temporal"):
        begin_comparison(store, dataset, temporal)
    assert pinned_dataset(store, settings) == f"ml-100k/{dataset.version}"
    assert pinned_dataset(store, settings.model_copy(update={"id": "new"})) is None
    run = read_run(store, "small", "ncf", 1)
    with pytest.raises(ComparisonError, match="ranked on different requests"):
        refuse_other_requests([run, replace(run, targets=run.targets + 1)])


@pytest.mark.parametrize(("file", "said"), [("ncf-1.parquet", "does not match its record"), ("ncf-1.json", "as JSON")])
def test_a_run_that_was_changed_is_not_compared(file: str, said: str, tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=ENTRIES[:2], reference="ncf")
    dataset, store = stored_dataset(settings), open_store(settings.store)
    do(settings, dataset)
    store.put(f"comparisons/small/runs/{file}", b"changed")
    with pytest.raises(VersionCorruptError, match=said):
        compare_runs(store, "small", dataset, [], settings)


def test_an_unnamed_comparison_is_named_by_what_decides_its_figures(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, id=None)
    dataset, store = stored_dataset(settings), open_store(settings.store)
    name = begin_comparison(store, dataset, settings)
    assert begin_comparison(store, dataset, settings.model_copy(update={"seeds": (1, 2, 3), "max_parallel": 2})) == name
    others = [
        begin_comparison(store, stored_dataset(settings, seed=1), settings),
        begin_comparison(store, dataset, small_comparison(tmp_path, id=None, evaluation={"k_core": 3})),
        begin_comparison(store, dataset, small_comparison(tmp_path, id=None, entries=ENTRIES[1:])),
    ]
    assert len({name, *others}) == 4
    assert json.loads(store.get(f"comparisons/{name}/comparison.json"))["dataset"] == f"ml-100k/{dataset.version}"
