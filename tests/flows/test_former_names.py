"""Runs of deployments across a renaming of settings: with the form of an earlier setup, and with a current form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.utilities.callables import parameter_schema

from configs.renames import KEYS
from configs.settings import RetrainSettings
from configs.studies import CompareSettings
from flows.compare_run import compare_run
from flows.retrain import retrain
from tasks.stages import start_run

# What commit cc68de1, the last before the renaming, made of these deployments: their `parameter_schema` without texts and defaults.
# Sections without former names are plain objects in it.
FORMER_FORMS = json.loads((Path(__file__).parents[1] / "data" / "forms_with_former_names.json").read_text())
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


def deployed(flow_name: str, name: str, form: dict[str, Any]) -> UUID:
    """The deployment FLOW_NAME/NAME, whose runs nobody executes. The server checks their parameters against the form."""

    @flow(name=flow_name)
    def stands_in() -> None: ...

    with get_client(sync_client=True) as client:
        return client.create_deployment(
            client.create_flow(stands_in), name, parameter_openapi_schema=form, enforce_parameter_schema=True
        )


def current_form(of: Any) -> dict[str, Any]:
    return parameter_schema(of).model_dump(exclude_unset=True)


def under(settings: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings that `names` has."""
    return {
        key: under(settings[key], value) if isinstance(value, dict) else settings[key]
        for key, value in names.items()
        if key in settings
    }


def test_a_form_of_former_names_gets_these_and_the_flow_reads_them() -> None:
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
    for model, renamed in KEYS.items():
        shown = form["definitions"][model]
        assert not renamed.keys() & shown["properties"].keys()
        assert not set(renamed.values()) & set(shown.get("required", ())), "a former name cannot stand for a required field"


def test_the_stored_form_has_all_former_names() -> None:
    """Otherwise the tests above would miss a renaming."""
    definitions = FORMER_FORMS["train/gpu"]["definitions"]
    for model, renamed in KEYS.items():
        assert renamed.keys() <= definitions[model]["properties"].keys()
    assert {key for section in FORMER.values() for key in section} | {"value"} >= {old for keys in KEYS.values() for old in keys}
