"""`recsys experiment`: what it prints, writes and refuses, and the example files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from configs.errors import SettingsError
from configs.serving import ExposureSettings
from flows.cli.main import app
from infra.storage.local import LocalStore
from serving.experiments import Experiments, Exposure, ExposureLog
from serving.reranking import Rules
from tests.serving.live import experiment, lived

EXAMPLES = Path(__file__).parents[3] / "configs" / "examples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an experiment's file, its outcomes, and its log, which is in the store, too."""
    made = experiment()
    exposures, outcomes = lived(made, users=1500)
    for log in (
        ExposureLog(ExposureSettings(folder=tmp_path / "log")),
        ExposureLog(ExposureSettings(folder=tmp_path / "sent"), LocalStore(tmp_path / "store")),
    ):
        for each in exposures:
            log.write(each)
        log.close(60)
    outcomes.to_csv(tmp_path / "outcomes.csv", index=False)
    file = {"experiments": [made.model_dump(mode="json")], "shadow": [{"version": "v9", "share": 0.1}]}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(file))
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["experiment", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_report_is_printed_and_written_from_a_folder_and_from_the_store(folder: Path) -> None:
    common = ["report", "longer", "--experiments", f"{folder}/experiments.yaml", "--outcomes", f"{folder}/outcomes.csv", "--as-of", "2025-08-01"]  # fmt: skip
    said = run(*common, "--exposures", f"{folder}/log", "--page", f"{folder}/page.html", "--json", f"{folder}/a.json")
    assert "challenger is better than control" in said and "sample ratio" in said
    assert "<h1>Experiment longer</h1>" in (folder / "page.html").read_text()
    run(*common, "--set", f"store.url=file:{folder}/store", "--json", f"{folder}/b.json")
    found = json.loads((folder / "a.json").read_text())
    assert found == json.loads((folder / "b.json").read_text())
    assert found["versus"][0]["verdict"] == "better" and found["trusted"]


def test_a_report_says_how_far_the_data_reaches_and_why(folder: Path) -> None:
    common = ["report", "longer", "--experiments", f"{folder}/experiments.yaml", "--outcomes", f"{folder}/outcomes.csv", "--exposures", f"{folder}/log"]  # fmt: skip
    said = " ".join(run(*common).split())
    assert "data up to 2025-06-25" in said and "UTC, the newest outcome" in said
    assert "data up to 2025-08-01 00:00 UTC, the time that was given" in run(*common, "--as-of", "2025-08-01")
    with pytest.raises(SettingsError, match=r"--as-of 2999-01-01 .* lies in the future: no data is complete up to then"):
        run(*common, "--as-of", "2999-01-01")


def test_a_report_from_the_store_mentions_a_log_that_is_not_uploaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = ["report", "longer", "--experiments", f"{folder}/experiments.yaml", "--outcomes", f"{folder}/outcomes.csv", "--set", f"store.url=file:{folder}/store"]  # fmt: skip
    monkeypatch.chdir(folder)
    assert "not uploaded" not in run(*common)
    log = ExposureLog(ExposureSettings(flush_s=0.01))
    log.write(Exposure(1_790_000_000, 1, "r", "v1", [3]))
    assert log.flush(60)
    assert "Not included: the log in .recsys/exposures has 1 file that is not uploaded." in " ".join(run(*common).split())
    log.close()


def test_experiments_are_listed_and_users_are_assigned(folder: Path) -> None:
    said = run("list", "--experiments", f"{folder}/experiments.yaml")
    assert "longer" in said and "shadow: v9 for 10%" in said
    run("assign", "--experiments", f"{folder}/experiments.yaml", "1", "2", "--json", f"{folder}/c.json")
    found = json.loads((folder / "c.json").read_text())
    assert {user: each["arm"] for user, each in found.items()} == {"1": "challenger", "2": "control"}


def test_the_refusal_of_an_unknown_experiment_names_those_in_the_file(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"no experiment 'shorter'\. Its experiments are: longer"):
        run("report", "shorter", "--experiments", f"{folder}/experiments.yaml", "--outcomes", f"{folder}/outcomes.csv")


def test_the_example_files_can_be_used() -> None:
    assert next(rule.name for rule in Rules.load(EXAMPLES / "rules.yaml").file.rules) == "winter films"
    assert len(Experiments.load(EXAMPLES / "experiments.yaml").versions) == 1
