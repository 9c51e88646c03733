from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs.errors import NotFoundError, TrainingError
from infra.stores import open_store
from models.recommender import EpochReport
from tasks.comparison import begin_comparison, read_run, run_entry
from tasks.comparison_process import run_apart
from tests.tasks.compared import ENTRIES, TINY_NCF, small_comparison, stored_dataset

pytestmark = pytest.mark.full

ENDLESS = {"name": "endless", "kind": "ncf", "settings": {**TINY_NCF, "max_epochs": 10**6, "patience": 10**6}}


def test_a_run_apart_is_the_run_and_tells_its_epochs(tmp_path: Path) -> None:
    apart, here = (small_comparison(tmp_path / name, entries=ENTRIES[:2], reference="ncf", threads=1) for name in ("a", "h"))
    told: list[EpochReport] = []
    for settings in (apart, here):
        dataset, store = stored_dataset(settings), open_store(settings.store)
        begin_comparison(store, dataset, settings)
        if settings is apart:
            run_apart("small", settings.entry("ncf"), 1, dataset, settings, told.append)
        else:
            run_entry(store, "small", settings.entry("ncf"), 1, dataset, settings)
    ours, theirs = (read_run(open_store(settings.store), "small", "ncf", 1) for settings in (apart, here))
    assert told == ours.record.epochs and len(told) == 2
    assert np.array_equal(ours.ranks, theirs.ranks)


def test_what_goes_wrong_apart_is_raised_here(tmp_path: Path) -> None:
    wild = {"name": "wild", "kind": "ncf", "settings": {**TINY_NCF, "learning_rate": 1e30}}
    settings = small_comparison(tmp_path, entries=[ENTRIES[0], wild], reference="wild")
    dataset = stored_dataset(settings)
    with pytest.raises(TrainingError, match=r"scores of ncf for user .* are not finite"):
        run_apart("small", settings.entry("wild"), 1, dataset, settings, lambda report: None)
    open_store(settings.store).delete(f"{dataset.prefix}/manifest.json")
    with pytest.raises(NotFoundError, match="There is no dataset ml-100k"):
        run_apart("small", settings.entry("popularity"), 1, dataset, settings, lambda report: None)


def test_a_defect_apart_keeps_its_traceback(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=ENTRIES[:2], reference="ncf")
    dataset = stored_dataset(settings)
    broken = settings.entry("ncf").model_copy(update={"kind": "nonsense"})
    with pytest.raises(RuntimeError, match=r"(?s)AttributeError.*Traceback.*run_entry"):
        run_apart("small", broken, 1, dataset, settings, lambda report: None)


def test_an_error_while_it_is_followed_ends_it(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=ENTRIES[:2], reference="ncf")
    dataset = stored_dataset(settings)

    def refuse(report: EpochReport) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_apart("small", settings.entry("ncf"), 1, dataset, settings, refuse)
    assert not open_store(settings.store).exists("comparisons/small/runs/ncf-1.json")


def test_a_killed_process_is_told_of(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=[ENTRIES[0], ENDLESS], reference="endless")
    dataset, mine, killed = stored_dataset(settings), os.getpid(), []

    def kill_it(report: EpochReport) -> None:
        if killed:  # what it had written before is read after its end
            return
        children = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(mine)], capture_output=True, text=True, check=True)
        (child,) = [line.split()[0] for line in children.stdout.splitlines() if "tasks.comparison_process" in line]
        os.kill(int(child), signal.SIGKILL)
        killed.append(child)

    with pytest.raises(TrainingError, match=r"trained endless with seed 1 ended with status -9 and no word: it was killed"):
        run_apart("small", settings.entry("endless"), 1, dataset, settings, kill_it)
    assert killed


def test_it_ends_when_its_parent_has_ended(tmp_path: Path) -> None:
    settings = small_comparison(tmp_path, entries=[ENTRIES[0], ENDLESS], reference="endless")
    work = pickle.dumps(("small", settings.entry("endless"), 1, stored_dataset(settings), settings, 1))
    command = [sys.executable, "-m", "tasks.comparison_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(work)
        assert b"epoch" in child.stdout.readline()
        child.stdin.close()
        child.stdout.read()  # ends with the process
        assert child.wait() == 1
