from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from configs.errors import SettingsError
from configs.loading import load_settings
from flows.compare import compare
from flows.etl import etl
from flows.promote import promote
from flows.retrain import retrain
from flows.search import search
from infra.prefect_server import EnvironmentSettings
from infra.prefect_server.deployments import deployment_defined, parameters_in, read_prefect_file
from infra.prefect_server.pools import GPU_POOL
from infra.prefect_server.setup import _definitions, _for_pods

PULL = "pull: [{step: {directory: '{{ $PWD }}', branch: '{{ $BRANCH }}', other: ['{{ $UNSET_THING }}', 1]}}]\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing"),
        ("deployments: [", "not a list of deployments"),
        ("deployments: []", "not a list of deployments"),
        (PULL + "deployments: [{name: etl}]", "etl has no entrypoint"),
        (
            PULL + "deployments: [{name: etl, entrypoint: a:b, work_pool: {name: p}, schedules: [{cron: '* * * * *'}]}]",
            "needs a cron and a slug",
        ),
        (
            PULL + "deployments: [{name: etl, entrypoint: a:b, work_pool: {name: p}, schedules: [{slug: s}]}]",
            "needs a cron and a slug",
        ),
    ],
)
def test_the_message_says_why_a_file_is_not_a_list_of_deployments(content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=said):
        read_prefect_file(path)


def test_a_definition_contains_the_folder_of_the_code_and_the_values_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCH", "main")
    entry = {"name": "etl", "entrypoint": "flows/etl.py:etl", "work_pool": {"name": "recsys"}, "concurrency_limit": 3}
    found = deployment_defined(entry, yaml.safe_load(PULL)["pull"], EnvironmentSettings(code=Path("/srv/code")))
    assert found.fields["pull_steps"] == [
        {"step": {"directory": "/srv/code", "branch": "main", "other": ["{{ $UNSET_THING }}", 1]}}
    ]
    assert found.limit == 3 and found.fields["concurrency_options"] is None and found.full_name == "etl/etl"
    assert found.fields["description"].startswith("Ingest, validate and store one dataset version.")


def test_a_pod_does_not_look_for_a_folder_of_this_machine() -> None:
    entries, pull = read_prefect_file()
    rented = [entry for entry in entries if entry["work_pool"]["name"] == GPU_POOL]
    assert rented
    for environment in (EnvironmentSettings(), EnvironmentSettings(code=Path("/app"))):
        fields = [deployment_defined(entry, pull, environment).fields for entry in rented]
        assert all(field["pull_steps"] == [] and ":" not in field["entrypoint"] for field in fields), (
            "the image of a pod has the code"
        )


@pytest.mark.full
def test_the_deployments_of_the_gpu_pool_get_the_image_and_the_references_to_the_keys() -> None:
    image = f"r.example.org/train@sha256:{'0' * 64}"
    settings = EnvironmentSettings.model_validate({"pools": {"gpu_image": image}})
    for definition in [_for_pods(each, settings, True) for each in _definitions(settings)]:
        given = definition.fields["job_variables"]
        keys = given.get("env", {}).keys() - {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY"}
        assert (given.get("image"), bool(keys)) == ((image, True) if definition.name == "gpu" else (None, False))
    none = [_for_pods(each, EnvironmentSettings(), True) for each in _definitions(EnvironmentSettings())]
    assert all("image" not in definition.fields["job_variables"] for definition in none)


def test_each_flow_gets_only_the_parameters_of_its_form() -> None:
    given = ["retraining.promotion.alpha=0.01", "retraining.store.url=s3://b", "retraining.model_name=other", "retraining.seed=3"]
    environment = load_settings(EnvironmentSettings, None, given)
    store, whole = {"url": "s3://b"}, {"promotion": {"alpha": 0.01}, "store": {"url": "s3://b"}, "model_name": "other", "seed": 3}
    assert parameters_in(retrain.fn, environment) == {"settings": whole} == parameters_in(search.fn, environment)
    assert parameters_in(compare.fn, environment) == {"settings": {"store": store}}
    assert parameters_in(promote.fn, environment) == {"model_name": "other", "store": store}
    assert parameters_in(promote.fn, EnvironmentSettings()) == {}
    environment = load_settings(
        EnvironmentSettings, None, ["retraining.etl.work_dir=/var/lib/etl", "retraining.model_name=other"]
    )
    assert parameters_in(etl.fn, environment) == {"engine": {"work_dir": "/var/lib/etl"}}, (
        "a parameter of another name gets its section"
    )


@pytest.mark.full
def test_an_environments_own_cron_replaces_that_of_the_file() -> None:
    environment = EnvironmentSettings(
        timezone="Europe/Berlin", crons={"retrain/retrain": "5 * * * *", "search/search": "0 3 1 * *"}
    )
    entries, pull = read_prefect_file()
    found = {each.full_name: each.schedules for each in (deployment_defined(entry, pull, environment) for entry in entries)}
    assert found["retrain/retrain"] == {"weekly": {"cron": "5 * * * *", "timezone": "Europe/Berlin"}}
    assert found["search/search"] == {"own": {"cron": "0 3 1 * *", "timezone": "Europe/Berlin"}}
    assert found["etl/etl"] == {"daily": {"cron": "30 1 * * *", "timezone": "Europe/Berlin"}} and found["compare/compare"] == {}
