"""Every benchmark explains itself, and one that lacks what it measures says so and ends with the code of a skipped test."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.report import SKIPPED

ROOT = Path(__file__).parents[2]


def commands() -> list[str]:
    """Find every module of the benchmarks that has a function `main`."""
    found = []
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        functions = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
        if any(function.name == "main" for function in functions):
            found.append(".".join(path.relative_to(ROOT / "benchmarks").with_suffix("").parts).removesuffix(".__main__"))
    return found


COMMANDS = commands()
SMALL = {
    "pipeline.export": ["--items", "300", "--users", "40"],
    "pipeline.gate_years": ["--years", "8", "--seed-sds", "0.0031", "--gains", "0.1"],
    "pipeline.text_ids": ["--rows", "3000", "--distinct", "2000"],
    "pipeline.peeking": ["--runs", "2", "--users", "300", "--lifts", "0", "0.5"],
    "serving.rollouts": ["--seeds", "1", "--traffic", "2000", "--bakes", "1", "--bake-users", "500"],
    "serving.rules": ["--items", "300", "--times", "2"],
}
"""Arguments with which these benchmarks run below."""
TESTED = {
    "pipeline.drift": "test_drift.py",
    "pipeline.drift_power": "test_drift_power.py",
    "pipeline.gate": "test_gate.py",
    "serving.experiments": "test_experiments.py",
    "serving.top_k": "serving/test_top_k.py",
    "figures": "test_figures.py",
    "ratios": "test_ratios.py",
    "tables": "test_tables.py",
    "training.parity": "test_commands.py",
}
"""Benchmarks that another test runs in a small volume."""
NOT_RUN = {
    "pipeline.busy_machine": "It trains models and starts twenty busy processes.",
    "pipeline.etl": "Each engine starts in a process of its own: tests/full/test_etl_benchmark.py runs it.",
    "pipeline.increment": "Each step starts in a process of its own: tests/full/test_increment_benchmark.py runs it.",
    "pipeline.replay": "It trains a model for each month: tests/full/test_replay.py runs the command that it measures.",
    "pipeline.rollback": "It trains a model.",
    "pipeline.synthetic_events": "It writes what the functions make that test_synthetic_events.py tests.",
    "ranking.audit": "It trains a model.",
    "newcomer": "It installs all packages: tests/full/documents/test_pages.py runs its session.",
    "ranking.classics": "It searches for the settings of four kinds.",
    "ranking.cost": "It trains a network of each kind.",
    "ranking.new_items": "It trains models.",
    "ranking.quality": "It trains models.",
    "ranking.ratings": "It trains models.",
    "ranking.peers": "It trains models.",
    "ranking.retrainings": "It trains models.",
    "ranking.search": "It trains models.",
    "ranking.ss4rec_quality": "It trains models.",
    "serving.bodies": "It starts a server and sends it hundreds of large bodies.",
    "serving.first_calls": "It starts a server and a Redis.",
    "serving.framework": "It starts servers and a Redis, and needs wrk.",
    "serving.general": "It starts servers and a Redis: tests/full/serving/test_general_benchmark.py runs it.",
    "serving.load": "It starts nine servers and a Redis, and needs wrk.",
    "serving.mixed": "It starts servers and a Redis: tests/full/serving/test_serve_command.py runs its load.",
    "serving.redis_bytes": "It starts a Redis.",
    "tracing": "It starts six servers, and needs wrk.",
    "serving.plain": "It is a server that does not end; serving.load starts it.",
    "training.cpu_speed": "It compiles kernels and trains a model.",
    "training.kernels": "It needs a GPU.",
    "training.replicas": "It needs GPUs.",
    "training.scale": "It needs a GPU, or hours.",
    "training.speed": "It needs a GPU.",
    "year": "It starts PostgreSQL, a Prefect server and a worker: test_year.py tests its pieces.",
}
"""Benchmarks that no test runs in seconds, with the reason."""


def run(monkeypatch: pytest.MonkeyPatch, command: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    spec = importlib.util.find_spec(f"benchmarks.{command}")
    assert spec is not None
    is_package = spec.submodule_search_locations is not None
    importlib.import_module(f"{spec.name}.__main__" if is_package else spec.name).main()


def test_every_benchmark_is_run_in_a_small_volume_or_has_a_reason_why_not() -> None:
    assert sorted([*SMALL, *TESTED, *NOT_RUN]) == sorted(COMMANDS)
    for command, file in TESTED.items():
        *_, package, name = ["benchmarks", *command.split(".")]
        text = (Path(__file__).parent / file).read_text()
        assert f"import {name}" in text or f"{package}.{name} import" in text or f'"{command}"' in text, command


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
        (["ranking.search", "--data", "/nowhere.zip"], "there is no /nowhere.zip"),
        (["ranking.classics", "--data", "/nowhere.zip"], "there is no /nowhere.zip"),
        (["ranking.ratings", "--data", "/nowhere.zip"], "there is no /nowhere.zip"),
        (["ranking.peers", "--data", "/nowhere.zip"], "there is no /nowhere.zip"),
        (["serving.first_calls"], "redis-server is not installed"),
        (["serving.general"], "redis-server is not installed"),
        (["serving.load"], "wrk is not installed"),
        (["serving.framework"], "wrk is not installed"),
        (["tracing"], "wrk is not installed"),
        (["serving.mixed"], "redis-server is not installed"),
        (["serving.redis_bytes"], "redis-server is not installed"),
        (["year"], "no C compiler"),
    ],
)
def test_a_benchmark_that_cannot_run_is_skipped_with_one_sentence(
    command: list[str], lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *command)
    said = capsys.readouterr().err
    assert ended.value.code == SKIPPED and said.startswith("Skipped: ") and lacks in said and said.count("\n") == 1
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.full
@pytest.mark.parametrize("command", SMALL)
def test_a_benchmark_in_a_small_volume_writes_its_result_and_prints_a_row_for_each_of_its_rows(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    run(monkeypatch, command, *SMALL[command], "--out", str(out))
    result = json.loads(out.read_text())
    assert len(result["rows"]) > 1 and {"hardware", "measured"} <= result.keys()
    assert sum(line.startswith("|") for line in capsys.readouterr().out.splitlines()) == 2 + len(result["rows"])


def test_a_reference_server_says_which_variable_chooses_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_PLAIN", "flask")
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "serving.plain", "serve")
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "the variable RECSYS_PLAIN must be reencode, torch, sasrec, canned; it is 'flask'" in said


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
