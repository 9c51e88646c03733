"""`recsys setup` against a real Prefect server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from configs.errors import SettingsError
from configs.loading import load_settings
from infra.prefect_server import EnvironmentSettings, set_up
from infra.prefect_server import setup as setting_up
from infra.prefect_server.change import Change
from infra.prefect_server.deployments import read_prefect_file
from tests.doubles.live_prefect import PREFECT, ROOT, ask, prefect_server, read, recsys, request, wait_until

pytestmark = pytest.mark.full

COMMIT = {"GITHUB_ACTIONS": "true", "GITHUB_SHA": "0123456789" * 4, "GITHUB_REF_NAME": "main", "GITHUB_REPOSITORY": "us/recsys"}
VOLATILE = {"last_polled", "status"}  # they depend on workers, not on setup
SECRETS = {
    "DISCORD_WEBHOOK_URL": "https://discord.com/api/webhooks/1234567890/planted-webhook-token",
    "RUNPOD_API_KEY": "planted-runpod-key",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


def setup(
    server: dict[str, str], *overrides: str, config: str | None = None, take_over: bool = False, **secrets: str
) -> list[Change]:
    settings = load_settings(EnvironmentSettings, config, overrides)
    with temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}):
        return set_up(settings, take_over=take_over, secrets=secrets)


def changed(changes: list[Change]) -> list[Change]:
    return [change for change in changes if change.changed]


def state(server: dict[str, str]) -> dict[str, Any]:
    """Return everything that setup may change, with the times of the last changes."""
    found: dict[str, Any] = {}
    for path in ("work_pools", "deployments", "variables", "automations", "block_documents", "v2/concurrency_limits"):
        more = {"include_secrets": True} if path == "block_documents" else {}
        found[path] = ask(server, f"{path}/filter", **more)
    found["queues"] = ask(server, "work_pools/recsys/queues/filter")
    found["runs"] = [(run["id"], run["expected_start_time"]) for run in ask(server, "flow_runs/filter", sort="ID_DESC")]
    return json.loads(json.dumps(found), object_hook=lambda item: {k: v for k, v in item.items() if k not in VOLATILE})  # type: ignore[no-any-return]


def test_a_second_setup_changes_nothing(server: dict[str, str]) -> None:
    first = setup(server, **SECRETS)
    made = {change.name for change in changed(first)}
    names = {entry["name"] for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert {f"{name}/{name}" for name in names - {"gpu"}} | {"train/gpu"} <= made
    assert {"recsys", "recsys-gpu", "recsys/urgent", "recsys/training", "recsys_environment"} <= made
    assert {"discord-webhook/recsys", "runpod-credentials/runpod", "retrain movie-ranker when due"} <= made
    assert read(server, "work_pools/recsys-gpu")["type"] == "runpod"
    # Three runs of each of the four schedules; the scheduler may add later ones at any time.
    wait_until(lambda: len(ask(server, "flow_runs/filter")) >= 12, 600, "the runs of the schedules")
    before = state(server)
    second = setup(server, **SECRETS)
    assert changed(second) == []
    after = state(server)
    assert set(map(tuple, before.pop("runs"))) <= set(map(tuple, after.pop("runs"))), "a run that was scheduled is gone"
    assert after == before


@pytest.mark.nightly  # test_deployments_file.py reads the same file by day
@pytest.mark.parametrize("checkout", [pytest.param({}, marks=pytest.mark.nightly), COMMIT], ids=["no commit", "a commit"])
def test_prefects_own_deploy_makes_the_same_deployments(server: dict[str, str], checkout: dict[str, str]) -> None:
    deployed = subprocess.run(
        [PREFECT, "--no-prompt", "deploy", "--all"],
        env=server | checkout,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert changed(setup(server)) == []


def test_changes_made_by_hand_are_undone_but_what_people_stopped_stays_stopped(server: dict[str, str]) -> None:
    etl = read(server, "deployments/name/etl/etl")
    retrain = read(server, "deployments/name/retrain/retrain")
    alert = next(found for found in ask(server, "automations/filter") if found["name"].endswith("is crashed"))
    schedule = etl["schedules"][0]["id"]
    for path, body in (
        (f"deployments/{etl['id']}/schedules/{schedule}", {"active": False}),
        (f"deployments/{etl['id']}", {"tags": ["mine"]}),
        (f"deployments/{retrain['id']}", {"paused": True, "concurrency_limit": 7}),
        ("work_pools/recsys", {"concurrency_limit": 3}),
        (f"automations/{alert['id']}", {"enabled": False}),
    ):
        request("PATCH", f"{server['PREFECT_API_URL']}/{path}", json=body).raise_for_status()
    done = {change.name: change.done for change in changed(setup(server))}
    assert done == {
        "recsys": "updated: concurrency_limit",
        "etl/etl": "updated: tags",
        "retrain/retrain": "updated: concurrency_limit",
    }
    etl = read(server, "deployments/name/etl/etl")
    assert "watched" in etl["tags"] and [found["active"] for found in etl["schedules"]] == [False]
    retrain = read(server, "deployments/name/retrain/retrain")
    assert retrain["paused"] and retrain["global_concurrency_limit"]["limit"] == 1
    assert not read(server, f"automations/{alert['id']}")["enabled"]
    assert changed(setup(server)) == []


def test_an_environment_has_its_parameters_zone_and_limits_and_is_not_taken_over_by_mistake(server: dict[str, str]) -> None:
    refused = recsys(["setup", "-c", "production"], server)
    assert refused.returncode == 1 and "set up for the environment local, but this is production" in refused.stderr
    no_limit = ["pools.training_limit=null", "timezone=Europe/Berlin"]
    done = {change.name: change.done for change in setup(server, *no_limit, config="production", take_over=True)}
    assert done["recsys-trainer-keys/recsys"].startswith("left out: no store credentials"), "they could not reach the bucket"
    found = {each["name"]: each for each in ask(server, "deployments/filter")}
    assert found["retrain"]["parameters"]["settings"]["store"] == {"url": "s3://recsys/production"}
    assert found["retrain"]["parameters"]["settings"]["promotion"]["approval"] == "manual"
    assert found["etl"]["parameters"] == {
        "data": {"source": "ml-latest-small", "cache_dir": "/var/lib/recsys/downloads"},
        "engine": {"work_dir": "/var/lib/recsys/etl"},
        "store": {"url": "s3://recsys/production"},
    }
    assert "promotion" not in found["promote"]["parameters"], "a version's own gate would not count"
    assert "promotion" not in found["compare"]["parameters"]["settings"], "a comparison has no gate"
    assert found["etl"]["schedules"][0]["schedule"]["timezone"] == "Europe/Berlin"
    assert found["etl"]["pull_steps"][0]["prefect.deployments.steps.set_working_directory"]["directory"] == "/app"
    assert read(server, "work_pools/recsys/queues/training")["concurrency_limit"] is None
    assert changed(setup(server, *no_limit, config="production")) == []
    assert changed(setup(server, take_over=True))


def test_a_notification_block_that_is_missing_is_named(server: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="slack-webhook/ops, which is not on the server"):
        setup(server, "alerts.blocks=[slack-webhook/ops]")


def test_the_key_of_a_webhook_is_replaced_when_it_changes_and_never_shown(server: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://discord.com/api/webhooks/1234567890/rotated-webhook-token\n")
    done = recsys(["setup"], {**server, "DISCORD_WEBHOOK_URL_FILE": str(tmp_path / "url")})
    assert done.returncode == 0 and "rotated-webhook-token" not in done.stdout + done.stderr
    blocks = ask(server, "block_documents/filter", include_secrets=True)
    assert [block["data"]["webhook_token"] for block in blocks if block["name"] == "recsys"] == ["rotated-webhook-token"]
    with pytest.raises(SettingsError, match="not a Discord webhook") as refused:
        setup(server, DISCORD_WEBHOOK_URL="http://example.org/planted-webhook-token")
    assert "planted" not in str(refused.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        setup(server, DISCORD_WEBHOOK_URL_FILE=str(tmp_path / "none"))


def test_the_stores_keys_are_kept_in_a_block_to_which_pods_refer(server: dict[str, str]) -> None:
    keys = {"AWS_TRAINER_CREDENTIALS": "[default]\naws_access_key_id = planted-id\naws_secret_access_key = planted-secret\n"}
    done = {change.name: change.done for change in changed(setup(server, **keys))}
    assert done == {"recsys-trainer-keys/recsys": "created", "train/gpu": "updated: job_variables"}
    assert changed(setup(server, **keys)) == [] and changed(setup(server)) == []
    shown = json.dumps([ask(server, "deployments/filter"), ask(server, "block_documents/filter")])
    assert "planted-id" not in shown and "planted-secret" not in shown and "blocks.recsys-trainer-keys.recsys." in shown
    rotated = {"AWS_TRAINER_CREDENTIALS": keys["AWS_TRAINER_CREDENTIALS"].replace("planted", "rotated")}
    assert {change.name: change.done for change in changed(setup(server, **rotated))} == {"recsys-trainer-keys/recsys": "updated"}


def test_an_environments_own_cron_is_set_and_one_for_an_unknown_deployment_is_refused(server: dict[str, str]) -> None:
    own = "crons={retrain/retrain: 0 5 * * *}"
    assert {change.name: change.done for change in changed(setup(server, own))} == {"retrain/retrain": "updated: schedules"}
    assert changed(setup(server, own)) == []
    with pytest.raises(SettingsError, match="nobody/weekly, but the deployments are etl/etl"):
        setup(server, "crons={nobody/weekly: 0 5 * * *}")


def test_a_refused_setup_changes_nothing(tmp_path: Path) -> None:
    with prefect_server(tmp_path / "prefect") as fresh:
        before = state_of(fresh)
        for wrong, secrets in (
            ("crons={nobody/weekly: 0 5 * * *}", {}),
            ("alerts.blocks=[slack-webhook/ops]", {}),
            ("schedules=false", {"DISCORD_WEBHOOK_URL": "http://example.org/hook"}),
        ):
            with pytest.raises(SettingsError):
                setup(fresh, wrong, **secrets)
            assert state_of(fresh) == before, wrong


def state_of(server: dict[str, str]) -> dict[str, int]:
    """Return how many objects of each kind the server has."""
    kinds = ("work_pools", "deployments", "variables", "automations", "block_documents")
    return {kind: len(ask(server, f"{kind}/filter")) for kind in kinds}


def test_objects_that_are_no_longer_defined_are_reported_and_pruned_but_other_peoples_are_not(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup(server)
    entries, pull = read_prefect_file()
    own = read(server, "deployments/name/monitor/monitor")
    mine = {
        key: own[key] for key in ("flow_id", "entrypoint", "tags", "work_pool_name", "parameters", "parameter_openapi_schema")
    }
    request("POST", f"{server['PREFECT_API_URL']}/deployments/", json={**mine, "name": "mine"}).raise_for_status()
    renamed = [{**entry, "name": "nightly"} if entry["name"] == "etl" else entry for entry in entries]
    monkeypatch.setattr(setting_up, "read_prefect_file", lambda: (renamed, pull))

    told = {change.name: change.done for change in setup(server, "retraining.model_name=shop") if change.done.startswith("left ")}
    assert told["etl/etl"].startswith("left over") and told["retrain movie-ranker when due"].startswith("left over")
    assert told["monitor/mine"].startswith("left alone")
    with temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}):
        assert setting_up.left_over() == ["etl/etl"], "the doctor would not report it"

    settings = load_settings(EnvironmentSettings, None, ["retraining.model_name=shop"])
    with temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}):
        pruned = {change.name for change in set_up(settings, prune=True, secrets={}) if change.done == "removed"}
        assert pruned == {"etl/etl", "retrain movie-ranker when due"}
        assert setting_up.left_over() == []
    names = {each["name"] for each in ask(server, "deployments/filter")}
    assert {"nightly", "mine"} <= names and "etl" not in names
    assert not [change for change in setup(server, "retraining.model_name=shop") if change.changed]


def test_without_a_server_setup_says_so(tmp_path: Path) -> None:
    none = recsys(["setup"], {"PATH": "/usr/bin", "PREFECT_HOME": str(tmp_path)})
    assert none.returncode == 1 and "PREFECT_API_URL is not set" in none.stderr
    away = recsys(["setup"], {"PATH": "/usr/bin", "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert away.returncode == 1 and "does not answer" in away.stderr
