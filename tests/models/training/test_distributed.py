"""Training in two processes that torchrun starts, over gloo: the replicas stay equal, and they equal the model of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.errors import LostReplicaError, TrainingError
from configs.settings import EvaluationSettings, ModelSettings, SS4RecSettings
from models.evaluation import Split, metrics, rank_requests, split
from models.loading import placement_of
from models.recommender import EpochReport
from models.ss4rec import SS4Rec
from models.training import Placement, Replicas, joined_replicas, place
from tests import synthetic
from tests.plain_ss4rec import PLAIN

EVEN = SS4RecSettings(
    **PLAIN | {"dropout": 0.0, "embedding_dropout": 0.0}, width=8, blocks=1, time_state=4, relation_state=4, max_length=10, batch_tokens=80, max_epochs=3, device="cpu",
)  # fmt: skip
THIN = EVEN.model_copy(update={"batch_tokens": 10, "interval": "learned"})  # a window a step: one replica has none
DROPPING = EVEN.model_copy(update={"dropout": 0.3, "embedding_dropout": 0.2})


def parts() -> Split:
    frame = synthetic.interactions(25, 30, 15)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


class Killed(Exception):
    """Stands for the end of a process."""


def trained(settings: SS4RecSettings, folder: Path | None, die_after: int | None = None) -> tuple[SS4Rec, dict[str, Any]]:
    def on_epoch(report: EpochReport) -> None:
        if report.epoch == die_after:
            raise Killed

    model, given = SS4Rec(settings), parts()
    fit = {"seed": 1, "mask_seen": True, "checkpoint_dir": folder}
    if die_after is not None:
        with pytest.raises(Killed):
            model.fit(given.train, given.valid, given.catalogue, **fit, on_epoch=on_epoch)  # type: ignore[arg-type]
    report = model.fit(given.train, given.valid, given.catalogue, **fit)  # type: ignore[arg-type]
    ranks = rank_requests(model, given.test, given.catalogue, mask_seen=True, batch_size=64).ranks
    return model, {
        "valid": [epoch.valid["ndcg@10"] for epoch in report.epochs],
        "loss": [epoch.loss for epoch in report.epochs],
        "test": metrics(ranks, (10,))["ndcg@10"],
        "resumed_from": report.resumed_from,
    }


def replica(out: Path) -> None:
    """Run four trainings in each process, and cut short and resume the last. Then run one without a shared folder.
    At the end the second process exits and leaves the first alone."""
    torch.set_num_threads(1)
    with joined_replicas("cpu") as replicas:
        assert replicas == Replicas.current() and replicas.count == 2
        assert int(os.environ["RANK"]) == replicas.rank
        runs = {
            "even": (EVEN, None, None),
            "thin": (THIN, None, None),
            "whole": (DROPPING, None, None),
            "resumed": (DROPPING, out / "checkpoints", 1),
        }
        for name, given in runs.items():
            model, found = trained(*given)
            save_file(model.network.state_dict(), out / f"{name}-{replicas.rank}.safetensors")
            (out / f"{name}-{replicas.rank}.json").write_text(json.dumps(found))
        with pytest.raises(TrainingError, match=r"Only 1 of 2 replicas found.*must share"):
            trained(EVEN, out / f"apart-{replicas.rank}", die_after=1)
        if replicas.rank == 1:
            os._exit(0)
        with pytest.raises(LostReplicaError, match="could not exchange its share"):
            replicas.sum_(torch.ones(1))
    assert Replicas.current() == Replicas()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replicas")
    program = folder / "replica.py"
    program.write_text(
        f"from pathlib import Path\nfrom tests.models.training.test_distributed import replica\nreplica(Path({str(folder)!r}))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def of(folder: Path, name: str, rank: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    found: dict[str, Any] = json.loads((folder / f"{name}-{rank}.json").read_text())
    return load_file(folder / f"{name}-{rank}.safetensors"), found


@pytest.mark.full
@pytest.mark.parametrize("name", ["even", "thin", "whole", "resumed"])
def test_replicas_have_the_same_weights_and_metrics(out: Path, name: str) -> None:
    (first, told), (second, also_told) = (of(out, name, rank) for rank in (0, 1))
    assert told == also_told and first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("name", "settings"), [("even", EVEN), ("thin", THIN)])
def test_two_replicas_learn_what_one_process_learns(name: str, settings: SS4RecSettings, out: Path) -> None:
    weights, told = of(out, name, 0)
    alone, expected = trained(settings, None)
    assert told["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert told["valid"] == pytest.approx(expected["valid"], abs=0.02) and told["test"] == pytest.approx(
        expected["test"], abs=0.02
    )
    for key, weight in alone.network.state_dict().items():
        torch.testing.assert_close(weights[key], weight, rtol=1e-2, atol=1e-3)


def test_replicas_that_were_cut_short_end_like_those_that_were_not(out: Path) -> None:
    for rank in (0, 1):
        (whole, told), (resumed, also_told) = of(out, "whole", rank), of(out, "resumed", rank)
        assert also_told["resumed_from"] == 1 and also_told["loss"] == told["loss"]
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_single_process_has_nothing_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_replicas("cpu") as replicas:
        assert replicas == Replicas() == Replicas.current()
        tensor, weight = torch.ones(2), torch.nn.Parameter(torch.ones(2))
        weight.grad = torch.ones(2)
        replicas.sum_(tensor)
        replicas.sum_gradients([weight])
        replicas.adopt_first([tensor])
        assert torch.equal(tensor, torch.ones(2)) and torch.equal(weight.grad, torch.ones(2))


@pytest.mark.parametrize(
    ("gpus", "device", "replicas", "expected"),
    [
        (0, "auto", "auto", Placement("cpu", 1)),
        (0, "auto", 3, Placement("cpu", 3)),
        (4, "cpu", "auto", Placement("cpu", 1)),
        (2, "cpu", 3, Placement("cpu", 3)),
        (4, "auto", "auto", Placement("cuda", 4)),
        (4, "cuda", 3, Placement("cuda", 3)),
        (1, "auto", 1, Placement("cuda", 1)),
    ],
)
def test_auto_means_every_gpu_or_one_process_on_the_cpu(
    gpus: int, device: Any, replicas: Any, expected: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(gpus, monkeypatch)
    models = ModelSettings(ss4rec=SS4RecSettings(device=device, replicas=replicas))
    assert placement_of("ss4rec", models) == expected
    assert placement_of("ncf", models).replicas == placement_of("popularity", models).replicas == 1


def see(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch say that it sees this many GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


def test_more_replicas_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    see(2, monkeypatch)
    with pytest.raises(TrainingError, match=r"models\.ss4rec\.replicas is 3, and torch sees 2 GPUs: .*to auto"):
        place("auto", 3, "ss4rec")
    see(0, monkeypatch)
    with pytest.raises(TrainingError, match="device: cuda needs a GPU"):
        place("cuda", "auto", "ss4rec")
