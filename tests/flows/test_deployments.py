"""Deployments as prefect.yaml defines them, and their forms, which still work after settings were renamed."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from sqlalchemy import create_engine, insert, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from configs.renames import KEYS
from configs.settings import RetrainSettings
from configs.studies import CompareSettings
from flows.compare_run import compare_run
from flows.retrain import retrain
from tasks.stages import start_run

ROOT = Path(__file__).parents[2]
# What commit cc68de1, from before the renaming, made of these deployments: their `parameter_schema` without texts and defaults.
# Sections without former names are plain objects in it.
FORMER_FORMS = json.loads((ROOT / "tests" / "data" / "forms_with_former_names.json").read_text())
FORMER = {
    "landing": {"races": 7},
    "evaluation": {"request_time": "last"},
    "promotion": {"races": 8, "seed": 5},
    "report": {"recommendations": False},
    "value": {"currency": "EUR"},
}
CURRENT = {
    "landing": {"max_retries_on_conflict": 7},
    "evaluation": {"query_time": "last"},
    "promotion": {"max_retries_on_conflict": 8, "bootstrap_seed": 5},
    "report": {"evidently": False},
    "business_value": {"currency": "EUR"},
}


def test_every_flow_has_a_deployment_whose_form_is_typed() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    deployed = {re.split(r"[:.]", deployment["entrypoint"])[-1].replace("_", "-") for deployment in deployments}
    texts = [path.read_text() for path in (ROOT / "flows").rglob("*.py")]
    flows = [found for text in texts if (found := set(re.findall(r'@flow\(\s*name="([\w-]+)"', text)))]
    assert deployed <= set().union(*flows) and [found for found in flows if not found & deployed] == []
    for deployment in deployments:
        module, _, name = deployment["entrypoint"].replace(".py:", ".").replace("/", ".").rpartition(".")
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, Flow) and deployment["description"] and "recsys" in deployment["tags"]
        assert found.name == deployment["name"] or (found.name, deployment["name"]) == ("train", "gpu")
        schema = parameter_schema(found).model_dump()
        assert all("type" in field or "$ref" in str(field) or "anyOf" in field for field in schema["properties"].values())
        if "settings" in inspect.signature(found.fn).parameters:
            assert {"SS4RecSettings", "EntrySettings"} & set(schema["definitions"])


def test_a_regular_flow_has_a_schedule_with_a_zone_and_a_name_and_runs_once_at_a_time() -> None:
    deployments = {entry["name"]: entry for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    scheduled = {
        name: [each["slug"] for each in entry["schedules"]] for name, entry in deployments.items() if "schedules" in entry
    }
    assert scheduled == {
        "etl": ["daily"],
        "monitor": ["daily"],
        "retrain": ["weekly"],
        "reap": ["hourly"],
        "rollout": ["lost"],
        "housekeeping": ["daily"],
    }
    for name in scheduled:
        assert deployments[name]["concurrency_limit"]["limit"] == 1
        assert all("timezone" in each and len(each["cron"].split()) == 5 for each in deployments[name]["schedules"])
    urgent = {name for name, entry in deployments.items() if entry["work_pool"].get("work_queue_name") == "urgent"}
    assert urgent == {"promote", "rollback", "resume", "rollout"}, "something for which a person waits is not urgent"


def test_the_installed_sqlalchemy_lets_prefects_scheduler_make_runs() -> None:
    """Prefect accepts SQLAlchemy 2.1, with which its scheduler only fails, in the server's log, and no schedule ever fires.

    Its statement (prefect.server.models.deployments): a bulk insert of flow runs whose values hold more than columns.
    """
    from prefect.server.database.orm_models import FlowRun

    run = {"id": uuid4(), "flow_id": uuid4(), "name": "scheduled", "state": {"type": "SCHEDULED"}}
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(text("create table flow_run as select 1 as none"))
    with Session(engine) as session, pytest.raises(OperationalError, match="flow_run has no column"):
        session.execute(insert(FlowRun), [run])


def deployed(flow_name: str, name: str, form: dict[str, Any]) -> UUID:
    """Create the deployment FLOW_NAME/NAME. Nobody executes its runs, but the server checks their parameters by the form."""

    @flow(name=flow_name)
    def stands_in() -> None: ...

    with get_client(sync_client=True) as client:
        return client.create_deployment(
            client.create_flow(stands_in), name, parameter_openapi_schema=form, enforce_parameter_schema=True
        )


def current_form(of: Any) -> dict[str, Any]:
    return parameter_schema(of).model_dump(exclude_unset=True)


def under(settings: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are in `names`."""
    return {
        key: under(settings[key], value) if isinstance(value, dict) else settings[key]
        for key, value in names.items()
        if key in settings
    }


def test_a_form_with_former_names_gets_these_and_the_flow_understands_them() -> None:
    deployed("retrain", "set-up-before", FORMER_FORMS["train/gpu"])
    settings = RetrainSettings.model_validate(CURRENT)
    sent = start_run("retrain/set-up-before", settings, {"dataset": "a/b", "hand_over": True}, timeout=0).parameters
    assert under(sent["settings"], FORMER) == FORMER
    assert under(sent["settings"], CURRENT) == {key: {} for key in CURRENT if key != "business_value"}
    assert sent["settings"]["seed"] == settings.seed and (sent["dataset"], sent["hand_over"]) == ("a/b", True)
    read = retrain.validate_parameters({"settings": sent["settings"]})["settings"]
    assert read.model_dump(exclude={"store"}) == settings.model_dump(exclude={"store"})


@pytest.mark.parametrize("former", [True, False])
def test_a_run_of_a_comparison_gets_the_names_that_the_form_knows(former: bool) -> None:
    name = "set-up-before" if former else "set-up-now"
    deployed("compare-run", name, FORMER_FORMS["compare-run/compare-run"] if former else current_form(compare_run))
    settings = CompareSettings.model_validate({key: CURRENT[key] for key in ("landing", "evaluation")})
    run = {"comparison": "x", "entry": "ncf", "seed": 1, "dataset": "a/b"}
    sent = start_run(f"compare-run/{name}", settings, run, timeout=0).parameters
    wanted, other = (FORMER, CURRENT) if former else (CURRENT, FORMER)
    for section in ("landing", "evaluation"):
        assert under(sent["settings"][section], wanted[section]) == wanted[section]
        assert not under(sent["settings"][section], other[section])
    assert {key: sent[key] for key in run} == run
    assert "secret_access_key" not in sent["settings"]["store"]


def test_a_current_form_gets_current_names() -> None:
    deployed("retrain", "set-up-now", current_form(retrain))
    settings = RetrainSettings.model_validate(CURRENT)
    sent = start_run("retrain/set-up-now", settings, {}, timeout=0).parameters["settings"]
    assert sent == settings.model_dump(mode="json", exclude={"store": {"access_key_id", "secret_access_key"}})


def test_a_current_form_accepts_former_names_and_checks_them() -> None:
    deployment = deployed("retrain", "for-people", current_form(retrain))
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment, parameters={"settings": FORMER})
        read = retrain.validate_parameters(run.parameters)["settings"]
        assert read == RetrainSettings.model_validate(CURRENT)
        for wrong in (
            {"promotion": {"races": 0}},
            {"promotion": {"racess": 2}},
            {"value": {"curency": "EUR"}},
            {"landing": {"seed": 1}},
            {"report": {"recommendations": "some"}},
        ):
            with pytest.raises(PrefectHTTPStatusError, match="409 Conflict"):
                client.create_flow_run_from_deployment(deployment, parameters={"settings": wrong})


def test_a_current_form_shows_no_former_names() -> None:
    form = current_form(retrain)
    for model in KEYS.keys() & form["definitions"].keys():
        shown, renamed = form["definitions"][model], KEYS[model]
        assert not renamed.keys() & shown["properties"].keys()
        assert not set(renamed.values()) & set(shown.get("required", ())), "a former name cannot stand for a required field"


def test_the_stored_form_has_all_former_names() -> None:
    """Otherwise the tests above would miss a renaming."""
    definitions = FORMER_FORMS["train/gpu"]["definitions"]
    renamed = {model: KEYS[model].keys() for model in KEYS.keys() & current_form(retrain)["definitions"].keys()}
    for model, keys in renamed.items():
        assert keys <= definitions[model]["properties"].keys()
    assert {*FORMER, *(key for section in FORMER.values() for key in section)} >= {
        key for keys in renamed.values() for key in keys
    }
