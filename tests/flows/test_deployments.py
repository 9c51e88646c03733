from __future__ import annotations

import importlib
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from sqlalchemy import create_engine, insert, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

ROOT = Path(__file__).parents[2]


def test_every_flow_has_a_deployment_whose_form_is_typed() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    files = {deployment["entrypoint"].split("/")[1].split(".")[0].replace("_", "-") for deployment in deployments}
    flow_files = {path.stem.replace("_", "-") for path in (ROOT / "flows").glob("*.py") if "@flow(" in path.read_text()}
    assert files == flow_files
    for deployment in deployments:
        file, name = deployment["entrypoint"].split(":")
        found = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)
        assert isinstance(found, Flow) and deployment["description"] and "recsys" in deployment["tags"]
        assert found.name == deployment["name"] or (found.name, deployment["name"]) == ("train", "gpu")
        schema = parameter_schema(found).model_dump()
        assert all("type" in field or "$ref" in str(field) or "anyOf" in field for field in schema["properties"].values())
        if "settings" in schema["properties"]:
            assert {"SS4RecSettings", "EntrySettings"} & set(schema["definitions"])


def test_what_is_regular_has_a_schedule_with_zone_and_name_and_runs_once_at_a_time() -> None:
    deployments = {entry["name"]: entry for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    scheduled = {
        name: [each["slug"] for each in entry["schedules"]] for name, entry in deployments.items() if "schedules" in entry
    }
    assert scheduled == {"etl": ["daily"], "monitor": ["daily"], "retrain": ["weekly"], "reap": ["hourly"]}
    for name in scheduled:
        assert deployments[name]["concurrency_limit"]["limit"] == 1
        assert all("timezone" in each and len(each["cron"].split()) == 5 for each in deployments[name]["schedules"])
    urgent = {name for name, entry in deployments.items() if entry["work_pool"].get("work_queue_name") == "urgent"}
    assert urgent == {"promote", "rollback"}, "what a person waits for stands behind nothing"


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
