from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs.errors import NotFoundError, TrainingError
from infra.storage import open_store
from models.recommender import EpochReport
from tasks.comparison import begin_comparison, run_entry_apart
from tasks.comparison.runs import run_entry
from tasks.comparison.stored_runs import read_run
from tests.full.prefect_server.prefect_process import wait_until
from tests.tasks.compared import ENTRIES, TINY_NCF, TINY_SS4REC, small_comparison, stored_dataset

pytestmark = pytest.mark.full

ENDLESS = {"name": "endless", "kind": "ncf", "settings": {**TINY_NCF, "max_epochs": 10**6, "patience": 10**6}}


def test_a_run_in_another_process_gives_the_same_result_and_reports_its_epochs(tmp_path: Path) -> None:
    apart, here = (small_comparison(tmp_path / name, entries=ENTRIES[:2], reference="ncf", threads=1) for name in ("a", "h"))
    told: list[EpochReport] = []
    for settings in (apart, here):
        dataset, store = stored_dataset(settings), open_store(settings.store)
        begin_comparison(store, dataset, settings)
        if settings is apart:
            run_entry_apart("small", settings.entry("ncf"), 1, dataset, settings, told.append)
        else:
            run_entry(store, "small", settings.entry("ncf"), 1, dataset, settings)
    ours, theirs = (read_run(open_store(settings.store), "small", "ncf", 1) for settings in (apart, here))
    assert told == ours.record.epochs and len(told) == 2
    assert np.array_equal(ours.ranks, theirs.ranks)


def test_an_error_in_the_other_process_is_raised_here(tmp_path: Path) -> None:
    wild = {"name": "wild", "kind": "ncf", "settings": {**TINY_NCF, "learning_rate": 1e30}}
    settings = small_comparison(tmp_path, entries=[ENTRIES[0], wild], reference="wild")
    dataset = stored_dataset(settings)
    with pytest.raises(TrainingError, match=r"scores of ncf for user .* are not finite"):
        run_entry_apart("small", settings.entry("wild"), 1, dataset, settings, lambda report: None)
    open_store(settings.store).delete(f"{dataset.prefix}/manifest.json")
    with pytest.raises(NotFoundError, match="There is no dataset ml-100k"):
        run_entry_apart("small", settings.entry("popularity"), 1, dataset, settings, lambda report: None)


@pytest.mark.nightly  # test_replicas.py shows it by day
def test_a_bug_in_the_other_process_keeps_its_traceback(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=ENTRIES[:2], reference="ncf")
    dataset = stored_dataset(settings)
    broken = settings.model_copy(update={"evaluation": None})
    with pytest.raises(RuntimeError, match=r"(?s)AttributeError.*Traceback.*run_entry"):
        run_entry_apart("small", broken.entry("ncf"), 1, dataset, broken, lambda report: None)


def test_an_error_while_following_the_other_process_ends_it(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=ENTRIES[:2], reference="ncf")
    dataset = stored_dataset(settings)

    def refuse(report: EpochReport) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_entry_apart("small", settings.entry("ncf"), 1, dataset, settings, refuse)
    assert not open_store(settings.store).exists("comparisons/small/runs/ncf-1.json")


def trainings() -> dict[int, int]:
    """Return the processes that train, with their parents."""
    listed = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    found = [line.split(maxsplit=2) for line in listed.splitlines() if "tasks.training.subprocess_training" in line]
    return {int(pid): int(parent) for pid, parent, _ in found}


def children_of(parent: int) -> list[int]:
    return [child for child, its in trainings().items() if its == parent]


def test_the_message_says_that_the_other_process_was_killed(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=[ENTRIES[0], ENDLESS], reference="endless")
    dataset, mine, killed = stored_dataset(settings), os.getpid(), []

    def kill_it(report: EpochReport) -> None:
        if killed:  # what it wrote before its end is read afterwards
            return
        (child,) = children_of(mine)
        os.kill(child, signal.SIGKILL)
        killed.append(child)

    with pytest.raises(
        TrainingError, match=r"trained endless with seed 1 ended with status -9 without reporting an error: it was killed"
    ):
        run_entry_apart("small", settings.entry("endless"), 1, dataset, settings, kill_it)
    assert killed


def test_the_other_process_ends_when_its_parent_has_ended(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=[ENTRIES[0], ENDLESS], reference="endless")
    program = (
        "import sys; from configs.studies.comparison import CompareSettings; from tasks.comparison.process import run_entry_apart\n"
        "from tasks.datasets import load_dataset_ref; from infra.storage import open_store\n"
        "s = CompareSettings.model_validate_json(sys.argv[1])\n"
        "d = load_dataset_ref(open_store(s.store), 'ml-100k', sys.argv[2])\n"
        "run_entry_apart('small', s.entry('endless'), 1, d, s, lambda report: print('epoch', flush=True))\n"
    )
    version = stored_dataset(settings).version
    command = [sys.executable, "-c", program, settings.model_dump_json(), version]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path)}) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"epoch\n"
        (child,) = children_of(parent.pid)
        parent.kill()
    wait_until(lambda: child not in trainings() and not list(tmp_path.glob("recsys-training-*")), 300)


@pytest.mark.nightly  # test_replicas.py trains replicas by day
def test_a_run_of_replicas_is_stored_once_with_their_number(tmp_path: Path) -> None:
    both = {"name": "both", "kind": "ss4rec", "settings": {**TINY_SS4REC, "replicas": 2}}
    settings = small_comparison(tmp_path, entries=[ENTRIES[0], both], reference="both")
    dataset, store, told = stored_dataset(settings), open_store(settings.store), []
    begin_comparison(store, dataset, settings)
    run_entry_apart("small", settings.entry("both"), 1, dataset, settings, told.append)
    record = read_run(store, "small", "both", 1).record
    assert record.replicas == 2 and record.epochs == told and len(told) == 2
    assert not (settings.work_dir / "comparisons/small/both-1").exists()
