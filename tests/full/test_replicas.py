"""Several processes train one candidate on the CPU, over gloo, and all end when one of them or their parent ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from configs.errors import NotFoundError, TrainingError
from configs.settings import RetrainSettings
from infra.registry import ModelRegistry
from infra.storage import open_store
from models.recommender import EpochReport
from tasks.datasets import DatasetRef, load_dataset_ref, write_dataset
from tasks.evaluation import evaluate
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tasks.training import Candidate, train_candidate
from tests import synthetic
from tests.flows.conftest import QUICK
from tests.full.prefect_server.prefect_process import run, wait_until
from tests.full.prefect_server.test_prefect_server import RECSYS, server, settings_of

__all__ = ["server"]

pytestmark = pytest.mark.full
SMALL = {
    "width": 8, "blocks": 1, "time_state": 4, "relation_state": 4, "max_length": 10, "batch_tokens": 64, "max_epochs": 4,
    "device": "cpu", "dropout": 0.0, "embedding_dropout": 0.0,
}  # fmt: skip
DROPPING = {"dropout": 0.3, "embedding_dropout": 0.2}
ENDLESS = {"max_epochs": 10**6, "patience": 10**6}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the folder where this test's processes find their work. In the end, no process and no work may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    wait_until(lambda: not processes(folder) and not list(folder.glob("recsys-training-*")), 180)


def processes(folder: Path) -> dict[int, str]:
    """Return the processes that were started to train, by their ids: torchrun and its replicas."""
    listed = subprocess.run(["ps", "-wweo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=1) for line in listed.splitlines()]
    return {int(line[0]): line[1] for line in lines if "tasks.training.subprocess_training" in line[1] and str(folder) in line[1]}


def replicas(folder: Path) -> list[int]:
    return [pid for pid, command in processes(folder).items() if "torch.distributed.run" not in command]


def settings_in(folder: Path, **changes: Any) -> RetrainSettings:
    return RetrainSettings.model_validate(
        {
            "evaluation": {"k_core": 0},
            "models": {"ss4rec": {**SMALL, "replicas": 2, **changes}, "ncf": None},
            "promotion": {"baselines": ["popularity"]},
            "report": {"evidently": False},
            "store": {"url": f"file:{folder}/store"},
            "work_dir": str(folder / "work"),
        }
    )


def stored(settings: RetrainSettings) -> DatasetRef:
    lax = settings.validation.model_copy(update={"min_rows": 1})
    validated = validate(RawTables(synthetic.interactions(30, 30, 15), None, None, ()), lax, 1_700_000_000)
    return write_dataset(open_store(settings.store), "small", validated, build_features(validated.interactions), {})


def trained(settings: RetrainSettings, on_epoch: Any = None) -> Candidate:
    return train_candidate(open_store(settings.store), stored(settings), "ss4rec", settings, on_epoch)


def test_two_replicas_train_the_same_model_as_one_process(tmp_path: Path) -> None:
    told: list[EpochReport] = []
    together, alone = settings_in(tmp_path), settings_in(tmp_path / "alone", replicas=1)
    ours, expected = trained(together, told.append), trained(alone)
    assert told == ours.epochs and len(told) == 4
    assert (ours.replicas, expected.replicas) == (2, 1) and ours.parameters == expected.parameters
    assert [epoch.loss for epoch in ours.epochs] == pytest.approx([epoch.loss for epoch in expected.epochs], rel=1e-4)
    valid, wanted = ([epoch.valid["ndcg@10"] for epoch in candidate.epochs] for candidate in (ours, expected))
    assert valid == pytest.approx(wanted, abs=0.02)
    weights, other = (load_file(Path(candidate.folder) / "model.safetensors") for candidate in (ours, expected))
    for name, weight in weights.items():
        assert weight.numpy() == pytest.approx(other[name].numpy(), rel=1e-2, abs=1e-3), name
    tests = [
        evaluate(open_store(settings.store), stored(settings), [candidate], "ss4rec", settings).evaluation.metrics["ss4rec"][
            "all"
        ]
        for settings, candidate in ((together, ours), (alone, expected))
    ]
    assert tests[0]["ndcg@10"] == pytest.approx(tests[1]["ndcg@10"], abs=0.02)


def test_an_error_in_a_replica_is_raised_here(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for changes in ({"user_features": True}, {"learning_rate": 1e30}):
        said = []
        for count in (1, 2):
            with pytest.raises(TrainingError) as caught:
                trained(settings_in(tmp_path / str(count), replicas=count, **changes))
            said.append(str(caught.value))
        assert said[0] == said[1]
    settings = settings_in(tmp_path)
    dataset = stored(settings)
    open_store(settings.store).delete(f"{dataset.prefix}/manifest.json")
    with pytest.raises(NotFoundError, match="There is no dataset small"):
        train_candidate(open_store(settings.store), dataset, "ss4rec", settings)
    assert "Traceback" not in capfd.readouterr().err


def test_a_bug_in_a_replica_keeps_its_traceback(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    broken = settings.model_copy(update={"evaluation": None})
    with pytest.raises(RuntimeError, match=r"(?s)AttributeError.*Traceback.*_train_replica"):
        train_candidate(open_store(settings.store), stored(settings), "ss4rec", broken)


def test_an_error_while_following_the_replicas_ends_each_of_them(tmp_path: Path, temporary: Path) -> None:
    def refuse(report: EpochReport) -> None:
        assert len(replicas(temporary)) == 2
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trained(settings_in(tmp_path, **ENDLESS), refuse)
    assert not list(temporary.glob("recsys-training-*"))


@pytest.mark.parametrize(
    "victim",
    [
        "the first replica",
        pytest.param("the second replica", marks=pytest.mark.nightly),
        pytest.param("torchrun", marks=pytest.mark.nightly),
    ],
)
def test_a_killed_replica_fails_the_run_in_one_paragraph(
    victim: str, tmp_path: Path, temporary: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def kill_it(report: EpochReport) -> None:
        if report.epoch == 1:
            launcher = set(processes(temporary)) - set(replicas(temporary))
            first, second = sorted(replicas(temporary))
            victims = {"torchrun": launcher.pop(), "the first replica": first, "the second replica": second}
            os.kill(victims[victim], signal.SIGKILL)

    with pytest.raises(TrainingError) as caught:
        trained(settings_in(tmp_path, **ENDLESS), kill_it)
    assert str(caught.value) == (
        "One of the 2 processes that trained ss4rec of movie-ranker ended with status -9 without reporting an error: it was killed, "
        "most likely because memory ran out. Lower models.ss4rec.replicas or the model's batch, and run again: training resumes from "
        "the last epoch."
    )
    assert "Traceback" not in capfd.readouterr().err


def test_only_its_user_can_read_the_work_and_no_command_line_shows_it(tmp_path: Path, temporary: Path) -> None:
    seen: list[tuple[int, set[str]]] = []
    settings = settings_in(tmp_path, **ENDLESS)
    secret = settings.store.model_copy(update={"access_key_id": "AKIA-OF-NOBODY"})

    class Seen(Exception):
        """Ends the training where the test has seen enough."""

    def look(report: EpochReport) -> None:
        (folder,) = temporary.glob("recsys-training-*")
        seen.append((folder.stat().st_mode & 0o777, {path.name for path in folder.glob("work-*")}))
        assert len(processes(temporary)) == 3
        assert all("AKIA-OF-NOBODY" not in command for command in processes(temporary).values())
        raise Seen

    with pytest.raises(Seen):
        trained(settings.model_copy(update={"store": secret}), look)
    assert seen == [(0o700, set())], "a replica has not deleted its work after reading it"


PARENT = """
import os, signal, sys
from configs.settings import RetrainSettings
from infra.storage.open import open_store
from tasks.training.candidates import train_candidate
from tasks.datasets import load_dataset_ref
settings = RetrainSettings.model_validate_json(sys.argv[1])
store = open_store(settings.store)
kill = lambda report: os.kill(os.getpid(), signal.SIGKILL) if report.epoch == 2 else None
train_candidate(store, load_dataset_ref(store, "small", sys.argv[2]), "ss4rec", settings, kill)
"""


def test_a_killed_parent_leaves_no_replica(tmp_path: Path, temporary: Path) -> None:
    settings = settings_in(tmp_path, **ENDLESS)
    forever = PARENT.replace("report.epoch == 2", "False")
    with subprocess.Popen([sys.executable, "-c", forever, settings.model_dump_json(), stored(settings).version]) as parent:

        def kept() -> bool:
            assert parent.poll() is None, "it ended by itself"
            return (settings.work_dir / "checkpoints/movie-ranker/ss4rec/checkpoint.pt").exists()

        try:
            wait_until(kept, 900, "the first checkpoint")
            assert len(replicas(temporary)) == 2
        finally:
            parent.kill()
    wait_until(lambda: not processes(temporary) and not list(temporary.glob("recsys-training-*")), 180)


@pytest.mark.nightly  # the test before shows it by day for one parent
def test_parents_killed_while_an_epoch_is_reported_to_them_leave_no_folder(temporary: Path) -> None:
    follow = "from tests.doubles.endless_epochs import follow; follow()"
    places = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    parents = [subprocess.Popen([sys.executable, "-c", follow], stdout=subprocess.PIPE, env=places) for _ in range(4)]
    for parent in parents:
        assert parent.stdout is not None
        with parent.stdout:
            assert parent.stdout.readline() == b"1\n"
            parent.kill()
        parent.wait()
    wait_until(lambda: not processes(temporary) and not list(temporary.glob("recsys-training-*")), 180)


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path: Path, temporary: Path) -> None:
    whole = trained(settings_in(tmp_path / "whole", **DROPPING))
    settings = settings_in(tmp_path, **DROPPING)
    version = stored(settings).version
    done = subprocess.run([sys.executable, "-c", PARENT, settings.model_dump_json(), version], check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not processes(temporary), 180)
    store = open_store(settings.store)
    resumed = train_candidate(store, load_dataset_ref(store, "small", version), "ss4rec", settings)
    assert resumed.resumed_from is not None and resumed.resumed_from >= 1  # that of epoch 2 may have been half-written
    assert resumed.files == whole.files and resumed.best_epoch == whole.best_epoch
    fewer = settings_in(tmp_path, **DROPPING, replicas=1)
    alone = train_candidate(store, load_dataset_ref(store, "small", version), "ss4rec", fewer)
    assert alone.resumed_from == 4, "a checkpoint of another number of replicas was not used"


@pytest.mark.nightly  # the tests above show by day what two replicas train
def test_retrain_trains_with_as_many_replicas_as_the_setting_says(server: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings_of(tmp_path, models=QUICK["models"])))
    wanted = ["--set", "models.ss4rec.replicas=2", "--set", "models.ss4rec.device=cpu"]
    done = run([RECSYS, "retrain", "-c", "run.yaml", *wanted, "--json", "out.json"], server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ss4rec was trained by 2 replicas" in done.stderr and "verdict: promoted" in done.stdout
    version = json.loads((tmp_path / "out.json").read_text())["version"]
    store = open_store(settings_in(tmp_path).store)
    assert ModelRegistry(store).manifest(version["name"], version["version"])["lineage"]["hardware"]["replicas"] == 2
    records = {key.rpartition("/")[2]: json.loads(store.get(key)) for key in store.list("runs/")}
    expected = {"popularity.json": 1, "ncf.json": 1, "ss4rec.json": 2}
    assert {name: record["replicas"] for name, record in records.items()} == expected
    audited = run([RECSYS, "model", "audit", version["version"], "-c", "run.yaml", "--retrain"], server, tmp_path)
    assert audited.returncode == 0, audited.stderr
    assert "retrained" in audited.stdout
