from __future__ import annotations

import importlib
from pathlib import Path

import yaml
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema

ROOT = Path(__file__).parents[2]


def test_every_flow_has_a_deployment_whose_form_is_typed() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    names = {deployment["name"] for deployment in deployments}
    flow_files = {path.stem.replace("_", "-") for path in (ROOT / "flows").glob("*.py") if "@flow(" in path.read_text()}
    assert names == flow_files
    for deployment in deployments:
        file, name = deployment["entrypoint"].split(":")
        found = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)
        assert isinstance(found, Flow) and found.name == deployment["name"]
        schema = parameter_schema(found).model_dump()
        assert all("type" in field or "$ref" in str(field) or "anyOf" in field for field in schema["properties"].values())
        if "settings" in schema["properties"]:
            assert {"SS4RecSettings", "EntrySettings"} & set(schema["definitions"])
