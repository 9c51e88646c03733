"""Every benchmark explains itself, and one that lacks what it measures says so and ends with the code of a skipped test."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.report import SKIPPED

COMMANDS = [
    "pipeline.busy_machine",
    "pipeline.drift",
    "pipeline.drift_power",
    "pipeline.etl",
    "pipeline.gate",
    "pipeline.gate_years",
    "pipeline.increment",
    "pipeline.replay",
    "pipeline.rollback",
    "pipeline.synthetic_events",
    "ranking.audit",
    "ranking.baselines",
    "ranking.quality",
    "ranking.retrainings",
    "ranking.search",
    "ranking.ss4rec_quality",
    "serving.bodies",
    "serving.experiments",
    "training.cpu_speed",
    "training.kernels",
    "training.parity",
    "training.replicas",
    "training.scale",
    "training.speed",
    "tables",
]


def run(monkeypatch: pytest.MonkeyPatch, command: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    importlib.import_module(f"benchmarks.{command}").main()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, command, "--help")
    assert ended.value.code == 0 and f"python -m benchmarks.{command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "lacks"),
    [
        (["training.kernels"], "no GPU"),
        (["training.speed"], "measures a GPU and there is none"),
        (["training.parity", "--device", "cuda"], "no GPU"),
        (["training.replicas"], "need as many GPUs"),
        (["training.scale"], "25000095 events need a GPU"),
        (["pipeline.etl", "--data", "ml-1m=/nowhere.zip"], "there is no /nowhere.zip"),
        (["pipeline.gate", "--seeds", "/nowhere.npz"], "there is no /nowhere.npz"),
        (["ranking.ss4rec_quality", "--data", "/nowhere.zip"], "there is no /nowhere.zip"),
        (["ranking.baselines", "--data", "/nowhere.zip"], "there is no /nowhere.zip"),
        (["ranking.search", "--data", "/nowhere.zip"], "there is no /nowhere.zip"),
    ],
)
def test_a_benchmark_that_cannot_run_is_skipped_with_one_sentence(
    command: list[str], lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *command)
    said = capsys.readouterr().err
    assert ended.value.code == SKIPPED and said.startswith("Skipped: ") and lacks in said and said.count("\n") == 1
    assert not list(tmp_path.rglob("*.json"))


def test_parity_on_the_cpu_is_within_its_bounds_and_writes_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "parity.json"
    run(monkeypatch, "training.parity", "--device", "cpu", "--cases", "1", "--draws", "64", "--out", str(out))
    result = json.loads(out.read_text())
    assert result["draws"] == {"count": 64, "non_finite": 0} and result["all_positions_vs_prefixes"] <= 1e-5
    for name in ("time_aware_vs_s5_pytorch", "relation_aware_vs_mamba_reference_maths"):
        assert len(result[name]) > 5 and 0 < max(result[name].values()) <= 1e-4


def test_runs_on_another_data_set_are_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "runs.json"
    out.write_text(json.dumps({"data": "ml-1m", "runs": []}))
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "ranking.ss4rec_quality", "--source", "ml-100k", "--out", str(out))
    assert ended.value.code == 2
