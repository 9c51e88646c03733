"""The flow `export` and its command: from the champion to files in a folder, with an artifact that says where they are."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from prefect.flows import load_flow_from_entrypoint
from typer.testing import CliRunner

from flows.cli.main import app
from infra.prefect_server import EnvironmentSettings
from infra.prefect_server.deployments import deployment_defined, read_prefect_file
from tests.flows.conftest import artifact_keys
from tests.serving.versions import promote_version
from tests.tasks.exported import Made
from tests.tasks.stored import NAME

ROOT = Path(__file__).parents[3]


@pytest.mark.full
def test_the_command_exports_the_champion_for_the_users_of_a_file(tmp_path: Path) -> None:
    made = Made(tmp_path)
    promote_version(made.store, made.ref.version)
    (tmp_path / "users.txt").write_text("3\n44\n")
    values = {"store.url": f"file:{tmp_path}/store", "model_name": NAME, "etl.work_dir": tmp_path / "work", "export.at": made.at}
    options = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    chosen = ["--to", str(tmp_path / "out"), "-k", "4", "--users", str(tmp_path / "users.txt"), "--seen", "show"]
    done = CliRunner().invoke(app, ["model", "export", *chosen, *options, "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert f"exported to {found['uri']}" in done.output and "2 users, " in done.output
    latest = json.loads((tmp_path / "out" / NAME / "latest.json").read_text())
    table = pd.read_parquet(tmp_path / "out" / NAME / latest["export"] / "top_k" / "00000.parquet")
    assert table["user_id"].tolist() == [3] * 4 + [44] * 4
    assert "export" in (keys := artifact_keys()) and "export-progress" not in keys, "a bar at 100 % says nothing"


def test_a_cron_of_the_environment_makes_it_a_nightly_batch() -> None:
    entries, pull = read_prefect_file()
    entry = next(entry for entry in entries if entry["name"] == "export")
    environment = EnvironmentSettings.model_validate(
        {"crons": {"export/export": "0 5 * * *"}, "retraining": {"export": {"to": "s3://bucket/nightly", "k": 50}}}
    )
    defined = deployment_defined(entry, pull, environment)
    assert [schedule["cron"] for schedule in defined.schedules.values()] == ["0 5 * * *"]
    assert defined.fields["parameters"] == {"export": {"to": "s3://bucket/nightly", "k": 50}}
    assert deployment_defined(entry, pull, EnvironmentSettings()).schedules == {}, "nobody is given files that he did not ask for"


@pytest.mark.parametrize("parameters", [{}, {"version": "champion", "export": {"parts": ["top_k"]}}])
def test_the_form_of_the_deployment_takes_its_parameters(parameters: dict[str, object]) -> None:
    flow = load_flow_from_entrypoint(f"{ROOT}/flows/export.py:export")
    assert flow.name == "export" and flow.validate_parameters(parameters)["version"] == "champion"
