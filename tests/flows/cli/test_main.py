from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from configs.loading import load_settings
from configs.settings import RetrainSettings
from flows.cli import main as cli
from flows.cli.options import table
from infra.storage import open_store


def recsys(*arguments: str) -> int:
    """Run the command in this process; its exit status."""
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


def test_help_tells_the_product_without_loading_it() -> None:
    program = "import sys; from flows.cli import main as cli\ntry: cli.app(['--help'])\nexcept SystemExit: pass\nprint(sorted({'torch', 'prefect', 'pandas', 'recbole', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    for command in (
        "retrain",
        "etl",
        "monitor",
        "train",
        "compare",
        "search",
        "promote",
        "rollback",
        "models",
        "show",
        "datasets",
        "audit",
    ):
        assert command in done.stdout


def test_a_day_at_the_command_line(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recsys("models", "-c", config) == 0
    assert "none yet" in capsys.readouterr().out
    assert recsys("show", "champion", "-c", config) == 1
    assert "no champion yet" in capsys.readouterr().err
    assert recsys("etl", "-c", config, "--json", str(tmp_path / "etl.json")) == 0
    assert recsys("monitor", "-c", config, "--json", str(tmp_path / "drift.json")) == 0
    assert recsys("train", "-c", config, "--json", str(tmp_path / "train.json")) == 0
    trained = json.loads((tmp_path / "train.json").read_text())["version"]
    assert recsys("retrain", "-c", config, "--json", str(tmp_path / "retrain.json")) == 0
    out = capsys.readouterr().out
    assert "verdict: promoted" in out and "loo-exact" in out and "ss4rec" in out
    assert "ss4rec - ncf" in out and "A watch brings 0.1 USD" in out and "It affects no decision" in out
    summary = json.loads((tmp_path / "retrain.json").read_text())
    version = summary["champion"]
    assert summary["dataset"]["version"] == json.loads((tmp_path / "etl.json").read_text())["version"]
    assert summary["evaluation"]["metrics"]["ncf"]["all"]["hr@10"] >= 0 and summary["durations_s"]["train ss4rec"] > 0
    assert summary["decision"]["outcome"] == "promoted"
    assert recsys("audit", "champion", "-c", config, "--retrain", "--draws", "2", "--json", str(tmp_path / "audit.json")) == 0
    audited = json.loads((tmp_path / "audit.json").read_text())
    own = next(row for row in audited["rows"] if row["own"])
    assert (
        audited["version"] == version
        and own["metrics"]["ndcg@10"] == summary["evaluation"]["metrics"]["ss4rec"]["all"]["ndcg@10"]
    )
    assert len(audited["rows"]) == 8 + 24 and "ties in histories" in capsys.readouterr().out
    assert recsys("promote", trained, "-c", config, "--force", "--reason", "drill", "--json", str(tmp_path / "p.json")) == 0
    assert recsys("show", trained, "-c", config, "--json", str(tmp_path / "trained.json")) == 0
    later = json.loads((tmp_path / "trained.json").read_text())["later_decisions"]
    assert [(found["outcome"], found["champion"]) for found in later] == [("held", version)]
    assert "judged later" in capsys.readouterr().out
    assert recsys("rollback", "-c", config, "--reason", "drill over") == 0
    assert f"{version} is champion (promotion 3, rollback)" in capsys.readouterr().out
    assert recsys("models", "-c", config) == 0 and recsys("datasets", "-c", config) == 0
    assert recsys("show", version, "-c", config, "--json", str(tmp_path / "show.json")) == 0
    out = capsys.readouterr().out
    assert f"champion of movie-ranker: {version}" in out and "ml-100k/" in out and "drill over" in out
    shown = json.loads((tmp_path / "show.json").read_text())
    store = open_store(load_settings(RetrainSettings, [config]).store)
    store.put(f"models/movie-ranker/{trained}/manifest.json", b"{}")  # one damaged version hides no other
    assert recsys("models", "-c", config, "--json", str(tmp_path / "models.json")) == 0
    listed = json.loads((tmp_path / "models.json").read_text())
    assert [ref["version"] for ref in listed["versions"]] == [version] and list(listed["damaged"]) == [trained]
    assert listed["champion"] == version and f"The manifest of movie-ranker {trained} is damaged" in capsys.readouterr().out
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
    assert version in out and out.count("x") == 90 and max(map(len, out.splitlines()[3:])) == 100


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
def test_a_mistake_ends_as_one_paragraph(
    arguments: list[str], said: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recsys("retrain", *(["-c", config] if "--config" not in arguments else []), *arguments) == 1
    error = capsys.readouterr().err
    told = error[error.rindex("error: ") :]
    assert said in told and "Traceback" not in error and told.strip().count("\n") == 0


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "settings_of", broken)
    with pytest.raises(ZeroDivisionError):
        recsys("retrain")
