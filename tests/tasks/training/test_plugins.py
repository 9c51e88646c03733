"""A plugin that raises, hangs, crashes or answers nonsense is refused by name, and harms nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import TrainingError
from configs.kinds import register, registry
from configs.settings import RetrainSettings
from infra.registry import file_digests
from infra.storage.local import LocalStore
from models.loading import load_recommender
from models.plugins import check_fitted, check_saved, load_apart
from models.recommender import EpochReport, FitReport
from tasks.datasets import DatasetRef, write_dataset
from tasks.evaluation import assemble_version, evaluate
from tasks.gate import Decision, judge_staged, stage_challenger
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tasks.training import Candidate, read_split, train_candidate
from tests import synthetic
from tests.infra.test_lifeline import ended
from tests.tasks.training.test_candidates import LAX

FAULTY = "tests.plugins.faulty:SPEC"
ASKING = """
import sys
from pathlib import Path
import numpy as np
from configs.kinds import register
from models.plugins import load_apart
from models.recommender import Requests
register([sys.argv[1]])
model = load_apart(Path(sys.argv[2]))
print(model._process.pid, flush=True)
one = np.ones(1, np.int64)
item = model.catalogue[:1]
model.scores(Requests(one, np.array([0, 1]), item, one, request_times=one, targets=item))
"""


@pytest.fixture(scope="module", autouse=True)
def only_these_plugins() -> Iterator[None]:
    """Forget the plugins of these tests after them."""
    yield
    registry._named.clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return LocalStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def dataset(store: LocalStore) -> DatasetRef:
    validated = validate(RawTables(synthetic.interactions(30, 30, 15), None, None, ()), LAX, 1_700_000_000)
    return write_dataset(store, "small", validated, build_features(validated.interactions), {})


def settings_of(store: LocalStore, folder: Path, fault: str = "", **changes: Any) -> RetrainSettings:
    promotion = {"resamples": 1100, "sample_requests": 3, "min_requests": 20, "floors": {"hr_at_10": 0, "ndcg_at_10": 0}}
    given = {
        "challenger": "faulty",
        "baselines": ["popularity"],
        "models": {"plugins": [FAULTY], "faulty": {"fault": fault}},
        "evaluation": {"k_core": 0},
        "promotion": promotion,
        "report": {"evidently": False},
        "store": {"url": f"file:{store.folder}"},
        "work_dir": str(folder / "work"),
    }
    return RetrainSettings.model_validate(given | changes)


@pytest.fixture(scope="module")
def healthy(
    store: LocalStore, dataset: DatasetRef, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Candidate, list[EpochReport]]:
    """A model of the plugin that was trained without a fault, and the epochs that its training reported."""
    epochs: list[EpochReport] = []
    settings = settings_of(store, tmp_path_factory.mktemp("healthy"))
    return train_candidate(store, dataset, "faulty", settings, epochs.append), epochs


def with_fault(healthy: Candidate, folder: Path, fault: str) -> Candidate:
    """Return a copy of the model that has a fault from when it is loaded."""
    shutil.copytree(healthy.folder, folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"fault": ""', f'"fault": "{fault}"'))
    assert fault in config.read_text()
    return dataclasses.replace(healthy, folder=str(folder), files=file_digests(folder))


@pytest.mark.full
def test_a_plugin_is_trained_in_a_process_of_its_own_and_answers_from_one(
    store: LocalStore, dataset: DatasetRef, healthy: tuple[Candidate, list[EpochReport]], tmp_path: Path
) -> None:
    candidate, epochs = healthy
    assert [epoch.epoch for epoch in epochs] == [1] and candidate.epochs == epochs
    register([FAULTY])
    apart, here = load_apart(Path(candidate.folder)), load_recommender(Path(candidate.folder))
    requests = read_split(store, dataset, settings_of(store, tmp_path).evaluation).test
    assert torch.equal(apart.scores(requests), here.scores(requests))
    there, ours = apart.predict_ratings(requests), here.predict_ratings(requests)
    assert there is not None and ours is not None and torch.equal(there, ours)
    assert (apart.name, apart.sequential) == ("faulty", False) and (apart.catalogue == here.catalogue).all()
    process = apart._process  # type: ignore[attr-defined]
    assert process.poll() is None
    del apart
    assert process.wait(60) == -9


@pytest.mark.full
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "fit raises",
            r"failed in training \(ZeroDivisionError: one of my numbers is zero, in faulty\.py, line \d+\)\. Mend the plugin",
        ),
        ("fit exits", r"failed in training \(SystemExit: this model needs a GPU, in faulty\.py, line \d+\)\. Mend the plugin"),
        ("fit crashes", "The process that trained faulty of movie-ranker ended with status -11 without reporting an error"),
    ],
)
def test_a_training_that_fails_is_one_sentence_that_names_the_plugin(
    store: LocalStore, dataset: DatasetRef, tmp_path: Path, fault: str, said: str
) -> None:
    with pytest.raises(TrainingError, match=said) as caught:
        train_candidate(store, dataset, "faulty", settings_of(store, tmp_path, fault))
    assert "faulty" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.full
def test_a_training_that_hangs_is_ended(store: LocalStore, dataset: DatasetRef, tmp_path: Path) -> None:
    settings = settings_of(store, tmp_path, "fit hangs")
    settings = settings.model_copy(update={"models": settings.models.model_copy(update={"plugin_silence_s": 1})})
    with pytest.raises(TrainingError, match=r"faulty of movie-ranker reported no epoch for 1 s \(models\.plugin_silence_s\)"):
        train_candidate(store, dataset, "faulty", settings)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (None, "its fit returned NoneType, not a FitReport"),
        (FitReport([EpochReport(1, 1, float("nan"), {}, 0.1, 1)], best_epoch=1), "epoch 1 has the loss nan and valid metrics"),
    ],
)
def test_a_report_of_a_training_that_means_nothing_is_refused(report: Any, said: str) -> None:
    register([FAULTY])
    with pytest.raises(TrainingError, match=f"The model faulty of the plugin {FAULTY} cannot be used: {said}"):
        check_fitted("faulty", report)


def test_the_numbers_of_a_report_may_be_those_of_numpy_and_torch() -> None:
    epoch = EpochReport(1, 1, np.float32(0.5), {"ndcg@10": torch.tensor(0.25)}, 0.1, np.int64(1))  # type: ignore[arg-type, dict-item]
    report = FitReport([epoch], best_epoch=np.int64(1))  # type: ignore[arg-type]
    register([FAULTY])
    check_fitted("faulty", report)
    stored = json.loads(json.dumps(dataclasses.asdict(report)))
    assert stored["best_epoch"] == 1 and stored["epochs"][0]["loss"] == 0.5 and stored["epochs"][0]["valid"] == {"ndcg@10": 0.25}


@pytest.mark.full
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), r"its save wrote no model\.safetensors"),
        (
            lambda folder: (folder / "config.json").write_text('{"model": "bert"}'),
            'its save wrote a config.json whose "model" is not',
        ),
    ],
)
def test_a_model_that_was_not_saved_completely_is_refused(
    healthy: tuple[Candidate, list[EpochReport]], tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    register([FAULTY])
    shutil.copytree(healthy[0].folder, tmp_path / "model")
    check_saved("faulty", tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(TrainingError, match=said):
        check_saved("faulty", tmp_path / "model")


@pytest.mark.full
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("load raises", r"failed in loading \(ZeroDivisionError"),
        ("load exits", r"failed in loading \(SystemExit: this model needs a GPU"),
        ("scores exit", r"failed in scoring \(SystemExit: this model needs a GPU"),
        ("scores raise", r"failed in scoring \(ZeroDivisionError: one of my numbers is zero, in faulty\.py, line \d+\)"),
        ("scores crash", "its process ended with status -11 while it should answer"),
        ("scores hang", r"it did not answer \d+ requests within 2 s, so its process was ended"),
        ("scores are NaN", r"its scores for user \d+ are NaN or infinite"),
        ("scores have another shape", r"its scores for \d+ requests and 30 items are \(\d+, 29\), not a tensor of \(\d+, 30\)"),
    ],
)
def test_a_model_that_answers_nonsense_is_refused_by_name(
    store: LocalStore,
    dataset: DatasetRef,
    healthy: tuple[Candidate, list[EpochReport]],
    tmp_path: Path,
    fault: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.plugins.apart.ANSWER_S", 2.0)
    settings = settings_of(store, tmp_path)
    candidate = with_fault(healthy[0], tmp_path / "model", fault)
    requests = read_split(store, dataset, settings.evaluation).test
    with pytest.raises(TrainingError, match=said) as caught:
        load_apart(Path(candidate.folder)).scores(requests)
    assert f"The model faulty of the plugin {FAULTY}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.full
def test_a_model_that_hangs_ends_with_the_process_that_asks_it_and_takes_its_children_along(
    healthy: tuple[Candidate, list[EpochReport]], tmp_path: Path
) -> None:
    candidate = with_fault(healthy[0], tmp_path / "model", "scores hang in a child")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", ASKING, FAULTY, candidate.folder]
    asking = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert asking.stdout is not None
        group = asking.stdout.readline().strip()

        def left() -> list[int]:
            found = subprocess.run(["pgrep", "-g", group], capture_output=True, text=True, check=False).stdout
            return [pid for pid in map(int, found.split()) if not ended(pid)]

        end = time.monotonic() + 120
        while len(left()) < 2:
            assert time.monotonic() < end and asking.poll() is None
            time.sleep(0.1)
    finally:
        asking.kill()
        asking.communicate()
    while left():
        assert time.monotonic() < end, left()
        time.sleep(0.1)


@pytest.mark.full
def test_a_baseline_whose_answers_change_between_processes_is_refused_and_nothing_is_stored(
    store: LocalStore, dataset: DatasetRef, healthy: tuple[Candidate, list[EpochReport]], tmp_path: Path
) -> None:
    settings = settings_of(store, tmp_path, challenger="popularity", baselines=["faulty"])
    baseline = with_fault(healthy[0], tmp_path / "model", "scores change between processes")
    candidates = [baseline, train_candidate(store, dataset, "popularity", settings)]
    before = list(store.list())
    with pytest.raises(TrainingError, match=r"in a new process the loaded model answers the request of user .* differently"):
        evaluate(store, dataset, candidates, "popularity", settings)
    assert list(store.list()) == before


@pytest.mark.full
def test_the_gate_judges_a_plugins_model_and_holds_one_whose_answers_changed(
    store: LocalStore, dataset: DatasetRef, healthy: tuple[Candidate, list[EpochReport]], tmp_path: Path
) -> None:
    settings = settings_of(store, tmp_path)
    candidates = [train_candidate(store, dataset, "popularity", settings), with_fault(healthy[0], tmp_path / "model", "none")]
    folder = Path(candidates[-1].folder)
    measured = evaluate(store, dataset, candidates, "faulty", settings)

    def judged(name: str) -> Decision:
        version = assemble_version(folder, measured, candidates, store, dataset, settings)
        return judge_staged(store, stage_challenger(store, name, version), "faulty", dataset, settings)

    decision = judged("sound")
    assert {rule.name: rule.verdict for rule in decision.rules}["loads and answers as trained"] == "passed", decision.reasons
    assert set(decision.metrics) == {"challenger", "popularity"}
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"none"', '"scores change between processes"'))
    decision = judged("changed")
    assert decision.outcome == "held" and any("differently from the trained model" in reason for reason in decision.reasons)
