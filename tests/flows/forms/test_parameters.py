"""The forms of the deployments: what they show, what they hide and still accept, and what a flow makes of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from configs.errors import SettingsError
from configs.settings import PromotionSettings, RetrainSettings, StoreSettings
from flows.etl import etl
from flows.export import export
from flows.monitor import monitor
from flows.promote import promote
from flows.retrain import retrain
from flows.train import train

ROOT = Path(__file__).parents[3]
WITHOUT_SETTINGS = {"resume", "reap"}


def forms() -> Iterator[tuple[str, dict[str, Any]]]:
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        module, _, name = deployment["entrypoint"].replace(".py:", ".").replace("/", ".").rpartition(".")
        found: Flow[..., Any] = getattr(importlib.import_module(module), name)
        yield deployment["name"], parameter_schema(found).model_dump(exclude_unset=True)


def accepted(form: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Return whether the server accepts the parameters of a run."""
    return not validate(parameters, form, ignore_required=True)


FORMS = dict(forms())


@pytest.mark.parametrize("name", sorted(FORMS.keys() - WITHOUT_SETTINGS))
def test_a_form_has_a_preset_first_then_a_few_fields_and_all_others_in_one(name: str) -> None:
    shown = FORMS[name]["properties"]["settings"]["properties"]
    fields = sorted(shown, key=lambda key: shown[key]["position"])
    assert fields[0] == "preset" or name in ("export", "compare-run", "rollout", "housekeeping"), fields
    assert fields[-1] == "advanced" and len(fields) + len(FORMS[name]["properties"]) <= 11
    assert "properties" not in shown["advanced"], "the UI would open it"


def test_no_field_is_drawn_as_a_choice_of_types_and_no_text_is_read_as_html() -> None:
    for name, form in FORMS.items():
        drawn = form["properties"] | form["properties"].get("settings", {}).get("properties", {})
        for key, field in drawn.items():
            assert "anyOf" not in field, f"{name}: {key} shows `Property is type None`"
            outside = "".join(field.get("description", "").split("`")[::2])
            assert "<" not in outside.replace(r"\<", ""), f"{name}: {key}"


def test_a_field_is_empty_at_first_so_that_it_leaves_the_preset_alone() -> None:
    for form in FORMS.values():
        for key, field in form["properties"].get("settings", {}).get("properties", {}).items():
            assert key in ("preset", "advanced") or "default" not in field


def test_the_server_checks_what_is_filled_in_by_the_settings_models() -> None:
    for good in (
        {"preset": "quick", "data.source": "ml-1m", "model_name": None},
        {"advanced": {"promotion.alpha": 0.01, "models": {"ss4rec": {"width": 8}}}},
        RetrainSettings().model_dump(mode="json"),
    ):
        assert accepted(FORMS["retrain"], {"settings": good})
    for bad in (
        {"preset": "quik"},
        {"data.source": "ml-9"},
        {"advanced": {"promotion.alpha": 3}},
        {"advanced": {"promotion": {"alpha": 3}}},
        {"advanced": {"models.ss4rec.width": 1}},
        {"promotion": {"alpha": 3}},
    ):
        assert not accepted(FORMS["retrain"], {"settings": bad})


def test_a_flow_of_settings_reads_a_form_and_settings_that_were_recorded_before_it() -> None:
    recorded = RetrainSettings(seed=7).model_dump(mode="json")
    assert retrain.validate_parameters({"settings": recorded})["settings"] == RetrainSettings(seed=7)
    read = retrain.validate_parameters({"settings": {"preset": "quick", "advanced": {"seed": 7}}})["settings"]
    assert isinstance(read, RetrainSettings) and (read.seed, read.models.ss4rec.max_epochs) == (7, 2)
    handed = train.validate_parameters({"settings": recorded, "dataset": "a/b", "hand_over": True})
    assert (handed["settings"].seed, handed["dataset"], handed["hand_over"]) == (7, "a/b", True)


def test_a_flow_of_sections_gets_them_from_its_form_above_those_of_its_deployment() -> None:
    deployment = {"data": {"source": "ml-20m"}, "store": {"url": "s3://b/p", "attempts": 9}}
    assert accepted(FORMS["etl"], deployment)
    before = etl.validate_parameters(deployment)
    assert (before["data"].source, before["store"].url) == ("ml-20m", "s3://b/p")
    filled = etl.validate_parameters({**deployment, "settings": {"preset": "ml-1m", "advanced": {"etl.chunk_rows": 5}}})
    assert (filled["data"].source, filled["store"].attempts, filled["engine"].chunk_rows) == ("ml-1m", 9, 5)
    assert "settings" not in filled
    watched = monitor.validate_parameters({"dataset": "a/b", "settings": {"model_name": "shop"}, "now": 5})
    assert (watched["model_name"], watched["dataset"], watched["now"]) == ("shop", "a/b", 5)
    assert export.validate_parameters({"settings": {"export.k": 3}})["export"].k == 3


def test_a_promotion_keeps_the_gate_of_the_version_unless_the_form_names_a_part_of_it() -> None:
    plain = promote.validate_parameters({"version": "v", "settings": {"preset": "default", "advanced": {}}})
    assert plain.get("promotion") is None and plain["store"] == StoreSettings()
    looser = promote.validate_parameters({"version": "v", "settings": {"promotion.alpha": 0.2}})["promotion"]
    assert isinstance(looser, PromotionSettings) and looser.model_fields_set == {"alpha"}


def test_a_misspelt_setting_fails_the_run_in_one_sentence() -> None:
    with pytest.raises(
        SettingsError, match=r"^The field advanced cannot be used: promotion.alpah is not a setting; did you mean alpha\?$"
    ):
        promote.validate_parameters({"version": "v", "settings": {"advanced": {"promotion.alpah": 0.2}}})
