from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from configs.loading import load_settings
from configs.settings import RetrainSettings
from flows.cli import main as cli
from flows.cli import pipeline
from flows.cli.old_names import OLD_NAMES
from flows.cli.options import table
from infra.storage import open_store
from infra.version_names import short_version


def recsys(*arguments: str) -> int:
    """Run the command in this process, and return its exit status."""
    before, sys.argv = sys.argv, ["recsys", *arguments]
    try:
        cli.main()
    except SystemExit as done:
        return int(done.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture
def config(make_settings: Callable[..., RetrainSettings], tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(json.loads(make_settings().model_dump_json(exclude_defaults=True))))
    return str(path)


def test_help_shows_all_commands_without_loading_the_product() -> None:
    program = (
        "import sys; from flows.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'prefect', 'pandas', 'pydantic', 'recbole', 'optuna'} & set(sys.modules)))"
    )
    narrow = os.environ | {"COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=narrow)
    *shown, loaded = done.stdout.strip().splitlines()
    assert loaded == "[]"
    lines = [line.strip("│╭─╮ ") for line in shown if line.startswith(("│", "╭"))]
    assert [line.split()[0] if "  " in line else line for line in lines[lines.index("Run the pipeline") :]] == [
        "Run the pipeline", "init", "retrain", "etl", "monitor",
        "Data, models and studies", "data", "model", "study", "experiment",
        "Serve", "serve", "demo",
        "Operate", "rollout", "setup", "freeze", "thaw", "prune", "doctor", "config", "key", "gpu",
    ], "in this order, with one line each"  # fmt: skip


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert recsys("--version") == 0
    assert capsys.readouterr().out == f"recsys {installed('movielens-recsys')}\n"


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command and group with its words, including hidden ones."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


ALL = dict(commands(get_command(cli.app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_the_help_of_a_command_has_a_short_sentence_and_an_example(path: tuple[str, ...]) -> None:
    first, *_ = ALL[path].help.split("\n\n")
    assert first.endswith(".") and len(first) <= 62 and "\n" not in first and ". " not in first, (
        "it does not fit on one line of a list"
    )
    words = tuple(OLD_NAMES.get(" ".join(path), " ".join(path)).split())
    shown = CliRunner().invoke(cli.app, [*path, "--help"], env={"COLUMNS": "200"}).output
    examples = [line.strip().removeprefix("Example: recsys ") for line in shown.splitlines() if "Example: recsys " in line]
    assert examples and all(tuple(example.split()[: len(words)]) == words for example in examples)
    named = [max((inner for inner in ALL if tuple(example.split()[: len(inner)]) == inner), key=len) for example in examples]
    assert all(inner and not hasattr(ALL[inner], "commands") for inner in named), "an example is not a command"


def test_a_day_at_the_command_line(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recsys("model", "list", "-c", config) == 0
    assert "none yet" in capsys.readouterr().out
    assert recsys("model", "show", "champion", "-c", config) == 1
    assert "no champion yet" in capsys.readouterr().err
    assert recsys("etl", "-c", config, "--json", str(tmp_path / "etl.json")) == 0
    assert recsys("monitor", "-c", config, "--json", str(tmp_path / "drift.json")) == 0
    assert recsys("model", "train", "-c", config, "--json", str(tmp_path / "train.json")) == 0
    trained = json.loads((tmp_path / "train.json").read_text())["version"]
    assert recsys("retrain", "-c", config, "--json", str(tmp_path / "retrain.json")) == 0
    out = capsys.readouterr().out
    assert "verdict: promoted" in out and "loo-exact" in out and "ss4rec" in out
    assert "ss4rec - ncf" in out and "One watch brings 0.1 USD" in out and "It affects no decision" in out
    summary = json.loads((tmp_path / "retrain.json").read_text())
    version = summary["champion"]
    assert summary["dataset"]["version"] == json.loads((tmp_path / "etl.json").read_text())["version"]
    assert summary["evaluation"]["metrics"]["ncf"]["all"]["hr@10"] >= 0 and summary["durations_s"]["train ss4rec"] > 0
    assert summary["decision"]["outcome"] == "promoted"
    assert (
        recsys("model", "audit", "champion", "-c", config, "--retrain", "--draws", "2", "--json", str(tmp_path / "audit.json"))
        == 0
    )
    audited = json.loads((tmp_path / "audit.json").read_text())
    own = next(row for row in audited["rows"] if row["own"])
    assert (
        audited["version"] == version
        and own["metrics"]["ndcg@10"] == summary["evaluation"]["metrics"]["ss4rec"]["all"]["ndcg@10"]
    )
    assert len(audited["rows"]) == 8 + 24 and "ties in histories" in capsys.readouterr().out
    assert (
        recsys("model", "promote", trained, "-c", config, "--force", "--reason", "drill", "--json", str(tmp_path / "p.json")) == 0
    )
    assert recsys("model", "show", trained, "-c", config, "--json", str(tmp_path / "trained.json")) == 0
    later = json.loads((tmp_path / "trained.json").read_text())["later_decisions"]
    assert [(found["outcome"], found["champion"]) for found in later] == [("held", version)]
    assert "judged later" in capsys.readouterr().out
    assert recsys("model", "rollback", "-c", config, "--reason", "drill over") == 0
    assert f"{short_version(version)} is champion (promotion 3, rollback)" in capsys.readouterr().out
    assert recsys("model", "list", "-c", config) == 0 and recsys("data", "list", "-c", config) == 0
    assert recsys("model", "log", "--last", "2", "-c", config, "--json", str(tmp_path / "log.json")) == 0
    logged = json.loads((tmp_path / "log.json").read_text())
    assert [(entry["number"], entry["kind"], entry["version"]) for entry in logged] == [
        (2, "force", trained),
        (3, "rollback", version),
    ]
    assert recsys("model", "show", version, "-c", config, "--json", str(tmp_path / "show.json")) == 0
    out = capsys.readouterr().out
    assert f"champion of movie-ranker: {short_version(version)}" in out and "ml-100k/" in out and "drill over" in out
    shown = json.loads((tmp_path / "show.json").read_text())
    store = open_store(load_settings(RetrainSettings, [config]).store)
    store.put(f"models/movie-ranker/{trained}/manifest.json", b"{}")  # a damaged version does not hide the others
    assert recsys("model", "list", "-c", config, "--json", str(tmp_path / "models.json")) == 0
    listed = json.loads((tmp_path / "models.json").read_text())
    assert [ref["version"] for ref in listed["versions"]] == [version] and list(listed["damaged"]) == [trained]
    assert (
        listed["champion"] == version
        and f"The manifest of movie-ranker {short_version(trained)} is damaged" in capsys.readouterr().out
    )
    assert (
        shown["later_decisions"] == []
        and shown["manifest"]["version"] == version
        and [entry["kind"] for entry in shown["promotions"]] == ["promote", "rollback"]
    )


def test_a_version_is_never_cut_off_in_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    version, reason = "20261124T110847Z-7a683e0f0fd20f503377d87920026085", "x" * 90
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("FORCE_COLOR", "1")
    table(["version", "reason"], [[version, reason]], whole="version")
    out = capsys.readouterr().out
    assert short_version(version) in out and out.count("x") == 90 and max(map(len, out.splitlines()[3:])) == 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "models.ss4rec.learn_rate=1"], "models.ss4rec.learn_rate is not a setting; did you mean learning_rate?"),
        (["--set", "seed=abc"], "seed: Input should be a valid integer"),
        (["--set", "seed"], "write key=value"),
        (["--set", "evaluation.ks=[5, 10"], "--set evaluation.ks=[5, 10: the value is not valid YAML"),
        (["--config", "no-such"], "There is no configuration no-such"),
        (["--set", "data.local_path=/no/such/file.zip"], "/no/such/file.zip, but there is no such file"),
    ],
)
def test_a_mistake_is_reported_in_one_paragraph(
    arguments: list[str], said: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recsys("retrain", *(["-c", config] if "--config" not in arguments else []), *arguments) == 1
    error = capsys.readouterr().err
    told = error[error.rindex("error: ") :]
    assert said in told and "Traceback" not in error and told.strip().count("\n") == 0


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "settings_of", broken)
    with pytest.raises(ZeroDivisionError):
        recsys("retrain")
