from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from configs.errors import TrainingError
from configs.settings import PopularitySettings
from models.popularity import Popularity
from models.recommender import EpochReport, FitReport, IntArray, Requests, Sequences
from models.training import Checkpoints, EagerEpochs, Learner, Schedule, StepRule, fixed_epochs, name_first_nonfinite, train


def run(
    folder: Path | None, *, epochs: int = 6, fingerprint: str = "a", valid: list[float] | None = None, **options: object
) -> tuple[nn.Module, FitReport]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1))
    curve = iter(valid or [n / 10 for n in range(1, 20)])

    def batches(epoch: int) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(epoch)
        yield from (torch.randn(5, 3, generator=generator) for _ in range(4))

    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    steps = EagerEpochs(
        network, optimizer, batches, lambda x: (network(x) - x.sum(1, keepdim=True)).square().mean(), StepRule(averaging=0.9)
    )
    report = train(
        Learner(network, optimizer, steps),
        lambda: {"ndcg@10": next(curve)},
        Schedule(epochs, patience=2),
        seed=3,
        checkpoints=folder and Checkpoints(folder, fingerprint),
        **options,  # type: ignore[arg-type]
    )
    return network, report


def test_only_a_training_of_the_same_data_and_settings_is_resumed(tmp_path: Path) -> None:
    def ids(*numbers: int) -> IntArray:
        return np.array(numbers, np.int64)

    train = Sequences(ids(1, 2), ids(0, 2, 3), ids(5, 6, 5), ids(1, 2, 3), weights=np.ones(3, np.float32))
    valid = Requests(ids(1, 2), ids(0, 1, 3), ids(5, 5, 6), ids(1, 1, 2), request_times=ids(4, 4), targets=ids(6, 5))
    model = Popularity(PopularitySettings())
    model.catalogue = ids(5, 6)

    def fingerprint(train: Sequences = train, valid: Requests = valid, seed: int = 1, mask_seen: bool = True) -> str:
        kept = Checkpoints.of(tmp_path, model, train, valid, seed, mask_seen=mask_seen)
        assert kept is not None
        return kept.fingerprint

    changed = [
        *(replace(train, **change) for change in (
            {"user_ids": ids(1, 3)}, {"offsets": ids(0, 1, 3)}, {"item_ids": ids(6, 5, 5)}, {"timestamps": ids(1, 2, 4)},
            {"weights": None}, {"weights": np.full(3, 2, np.float32)}, {"ties_drawn": True},
        )),
        *(replace(valid, **change) for change in (
            {"user_ids": ids(1, 3)}, {"offsets": ids(0, 2, 3)}, {"item_ids": ids(5, 6, 5)}, {"timestamps": ids(1, 1, 3)},
            {"request_times": ids(4, 5)}, {"targets": ids(6, 6)},
        )),
    ]  # fmt: skip
    found = {fingerprint(valid=part) if isinstance(part, Requests) else fingerprint(part) for part in changed}
    found |= {fingerprint(seed=2), fingerprint(mask_seen=False)}
    assert len(found) == len(changed) + 2 and fingerprint() not in found
    assert fingerprint(replace(train, item_ids=train.item_ids.copy())) == fingerprint()


class Killed(Exception):
    """Stands for the end of the process."""


def kill_after(epoch: int) -> object:
    def on_epoch(report: EpochReport) -> None:
        if report.epoch == epoch:
            raise Killed

    return on_epoch


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_run_that_was_cut_short_ends_with_the_same_weights(epoch: int, tmp_path: Path) -> None:
    whole, expected = run(None)
    with pytest.raises(Killed):
        run(tmp_path, on_epoch=kill_after(epoch))
    resumed, report = run(tmp_path, valid=[n / 10 for n in range(epoch + 1, 20)])
    assert report.resumed_from == epoch and expected.resumed_from is None
    assert [e.loss for e in report.epochs] == [e.loss for e in expected.epochs]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path: Path) -> None:
    run(tmp_path, epochs=2)
    assert run(tmp_path, epochs=2, fingerprint="b")[1].resumed_from is None


def test_training_stops_when_the_valid_metric_stops_rising_and_keeps_the_best() -> None:
    _, report = run(None, epochs=10, valid=[0.1, 0.3, 0.2, 0.25, 0.9, 0.9])
    assert (len(report.epochs), report.best_epoch) == (4, 2)
    assert [e.best_epoch for e in report.epochs] == [1, 2, 2, 2]


def test_a_fixed_number_of_epochs_ends_with_the_last_weights_whatever_the_valid_metric_is(tmp_path: Path) -> None:
    rising, _ = run(None, epochs=5)
    with fixed_epochs(5):
        fixed, report = run(None, epochs=9, valid=[0.5, 0.4, 0.2, 0.15, 0.1])
        with pytest.raises(Killed):
            run(tmp_path, epochs=9, valid=[0.5, 0.4], on_epoch=kill_after(2))
        resumed, again = run(tmp_path, epochs=9, valid=[0.2, 0.15, 0.1])
    assert (len(report.epochs), report.best_epoch, again.resumed_from) == (5, 5, 2)
    for network in (fixed, resumed):
        assert all(torch.equal(weight, network.state_dict()[name]) for name, weight in rising.state_dict().items())
    assert report.collapsed, "the valid metric fell below half of its best value"
    assert len(run(None, epochs=9, valid=[0.5, 0.4, 0.3])[1].epochs) == 3, "patience counts again outside of the block"


def test_training_and_resuming_leave_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(tmp_path, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert run(tmp_path, epochs=2)[1].resumed_from == 1
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_is_nan_stops_the_run_and_the_error_says_where(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    losses = iter([1.0, 1.0, float("nan")])
    with pytest.raises(
        TrainingError, match=r"epoch 1, step 3: loss nan.*non-finite gradients: \['weight', 'bias'\].*debug: true"
    ):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        epochs = EagerEpochs(network, optimizer, lambda epoch: range(5), lambda _: network(torch.ones(1, 2)).sum() * next(losses))
        train(
            Learner(network, optimizer, epochs),
            lambda: {"ndcg@10": 0.0},
            Schedule(1, 1),
            seed=0,
            checkpoints=Checkpoints(tmp_path, ""),
        )
    assert not list(tmp_path.iterdir()) and torch.isfinite(network.weight).all()


def test_the_error_says_that_there_is_nothing_to_train_on() -> None:
    network = nn.Linear(2, 1)
    with pytest.raises(TrainingError, match="nothing to train on"):
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        epochs = EagerEpochs(network, optimizer, lambda e: [], lambda b: b)
        train(Learner(network, optimizer, epochs), dict, Schedule(1, 1), seed=0)


def test_debug_names_the_first_module_that_breaks() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight.fill_(float("inf"))
    handles = name_first_nonfinite(network)
    with pytest.raises(TrainingError, match=r"module 1 \(Linear\)"):
        network(torch.ones(1, 2))
    for handle in handles:
        handle.remove()
    network(torch.ones(1, 2))


@pytest.mark.full
def test_a_kill_while_a_checkpoint_is_written_leaves_the_previous_one(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from tests.models.training.test_loop import run\n"
        "count = iter(range(9)); sync = os.fsync\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL) if next(count) == 2 else sync(fd)\n"
        "run(Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, env=environment)
    assert done.returncode == -signal.SIGKILL
    resumed, report = run(tmp_path, valid=[n / 10 for n in range(3, 20)])
    assert report.resumed_from == 2
    whole, expected = run(None)
    assert [e.loss for e in report.epochs] == [e.loss for e in expected.epochs]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])


def test_training_goes_on_while_a_checkpoint_is_written_and_ends_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, told, order = os.fsync, threading.Event(), []

    def slow(file: int) -> None:
        order.append("begun")
        assert told.wait(60), "the next epoch waited for the disk"
        sync(file)
        order.append("written")

    def on_epoch(report: EpochReport) -> None:
        if report.epoch == 1:  # its checkpoint is still being written
            order.append("told")
            told.set()

    monkeypatch.setattr(os, "fsync", slow)
    whole, _ = run(None, epochs=3)
    run(tmp_path, epochs=3, on_epoch=on_epoch)
    assert order.count("begun") == order.count("written") == 3 and order[-1] == "written"
    assert order.index("told") < order.index("written")
    resumed, report = run(tmp_path, epochs=3)  # what was copied is the state after the last epoch
    assert report.resumed_from == 3
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])


def test_a_checkpoint_that_cannot_be_written_ends_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for epochs in (1, 3):
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path, epochs=epochs)
