"""The form that the Prefect UI draws for a flow's parameters: order, titles and texts come from the settings models."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from infra.prefect_server.deployments import PREFECT_FILE

ENTRYPOINTS = sorted({entry["entrypoint"] for entry in yaml.safe_load(PREFECT_FILE.read_text())["deployments"]})


def schema_of(entrypoint: str) -> dict[str, Any]:
    module, _, name = entrypoint.replace(".py:", ".").replace("/", ".").rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    return parameter_schema(flow).model_dump(exclude_unset=True)


@pytest.mark.parametrize("entrypoint", ENTRYPOINTS)
def test_every_field_of_a_form_has_its_place_a_title_and_a_text(entrypoint: str) -> None:
    for model, section in schema_of(entrypoint).get("definitions", {}).items():
        for place, (name, field) in enumerate(section.get("properties", {}).items()):
            where = f"{model}.{name}"
            assert field["position"] == place, f"{where}: a database that forgets the order has nothing to sort by"
            assert not re.search(r"_| s$|\wSettings", field["title"]), f"{where} is titled {field['title']}"
            assert "description" in field or "$ref" in str(field), f"{where} has no text"


def test_titles_are_words_with_units() -> None:
    form = schema_of("flows/retrain.py:retrain")
    definitions, shown = form["definitions"], form["properties"]["settings"]["properties"]
    titles = {
        (model, name): field["title"]
        for model, section in definitions.items()
        for name, field in section.get("properties", {}).items()
    }
    assert titles["ValidationSettings", "max_future_s"] == "Max future (s)"
    assert titles["StoreSettings", "part_mb"] == "Part (MB)"
    assert titles["FloorSettings", "ndcg_at_10"] == "NDCG@10"
    assert titles["ModelSettings", "ss4rec"] == "SS4Rec"
    assert shown["store.url"]["title"] == "Store URL, file:.recsys/store by default"
    assert shown["data.local_path"]["title"] == "Data local path"
    assert definitions["TrainingPlaceSettings"]["title"] == "Training place"
