"""Former names of settings: each one gives the settings of the current name, wherever it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from configs import renames
from configs.base import Settings
from configs.errors import SettingsError
from configs.loading import effective_settings, load_settings
from configs.redaction import safe_settings
from configs.renames import names_of_form
from configs.serving import Pin, RuleFile, Selection
from configs.settings import EvaluationSettings, FloorSettings, PromotionSettings, RetrainSettings
from configs.studies import ReplaySettings, SearchSettings, ShiftSettings
from flows.compare import compare
from flows.compare_run import compare_run
from flows.replay import replay
from flows.retrain import retrain
from flows.search import search
from infra.prefect_server import EnvironmentSettings

RENAMED = [
    ("promotion.races", "promotion.max_retries_on_conflict", 7),
    ("promotion.seed", "promotion.bootstrap_seed", 5),
    ("landing.races", "landing.max_retries_on_conflict", 9),
    ("report.recommendations", "report.evidently", False),
    ("report.recommendations", "report.evidently", True),
    ("value.currency", "business_value.currency", "2024"),
    ("evaluation.request_time", "evaluation.query_time", "last"),
]
COMMANDS = [RetrainSettings, SearchSettings, ReplaySettings]


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def variable(key: str) -> str:
    return "RECSYS__" + key.upper().replace(".", "__")


@pytest.mark.parametrize("model", COMMANDS)
@pytest.mark.parametrize(("old", "new", "value"), RENAMED)
def test_a_former_name_gives_the_same_settings_in_every_source(
    model: type[RetrainSettings], old: str, new: str, value: Any, tmp_path: Path
) -> None:
    expected = load_settings(model, None, [f"{new}={value}"])
    assert expected.model_dump(exclude_unset=True)
    (tmp_path / "x.yaml").write_text("\n".join(f"{'  ' * n}{part}:" for n, part in enumerate(old.split("."))) + f" {value}")
    section, _, last = old.partition(".")
    for found in (
        load_settings(model, str(tmp_path / "x.yaml")),
        load_settings(model, environment={variable(old): str(value)}),
        load_settings(model, None, [f"{old}={value}"]),
        load_settings(model, None, [f"{section}={{{last}: {value}}}"]),
        model.model_validate(nested(old, value)),
    ):
        assert found == expected
        assert found.model_dump(exclude_unset=True) == expected.model_dump(exclude_unset=True)


@pytest.mark.parametrize("flow", [retrain, search, replay])
@pytest.mark.parametrize(("old", "new", "value"), RENAMED)
def test_the_parameters_of_a_deployment_may_have_former_names(flow: Any, old: str, new: str, value: Any) -> None:
    before, now = ({"settings": nested(key, value)} for key in (old, new))
    assert flow.validate_parameters(before) == flow.validate_parameters(now)


def test_the_parameters_of_comparisons_may_have_former_names() -> None:
    given = {"landing": {"races": 2}, "evaluation": {"request_time": "last"}, "alpha": 0.1, "hourly_price": 2.5}
    current = {**given, "landing": {"max_retries_on_conflict": 2}, "evaluation": {"query_time": "last"}}
    assert compare.validate_parameters({"settings": given}) == compare.validate_parameters({"settings": current})
    run = {"comparison": "x", "entry": "ncf", "seed": 1, "dataset": "a/b"}
    assert compare_run.validate_parameters({**run, "settings": given}) == compare_run.validate_parameters(
        {**run, "settings": current}
    )


@pytest.mark.parametrize(("old", "new", "value"), RENAMED)
def test_an_environment_passes_on_the_current_name(old: str, new: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"retraining": nested(old, value)}))
    assert load_settings(EnvironmentSettings, str(tmp_path / "x.yaml")).overrides == nested(new, value)


@pytest.mark.parametrize(("old", "new", "value"), RENAMED)
def test_settings_that_a_version_stored_under_former_names_are_read(old: str, new: str, value: Any) -> None:
    stored = safe_settings(load_settings(RetrainSettings, None, [f"{new}={value}"]))
    (section, key), (former_section, former_key) = new.split("."), old.split(".")
    content = stored.pop(section)
    content[former_key] = content.pop(key)
    stored[former_section] = content
    assert safe_settings(RetrainSettings.model_validate(stored)) == safe_settings(
        load_settings(RetrainSettings, None, [f"{new}={value}"])
    )


@pytest.mark.parametrize("model", COMMANDS)
def test_a_later_source_wins_whichever_name_it_uses(model: type[RetrainSettings], tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("promotion: {races: 2}\n")
    new.write_text("promotion: {max_retries_on_conflict: 4}\n")

    def attempts(files: list[Path], *options: str, **variables: str) -> int:
        found = load_settings(model, [str(file) for file in files], options, variables)
        return found.promotion.max_retries_on_conflict

    assert (attempts([old, new]), attempts([new, old])) == (4, 2)
    assert attempts([new], RECSYS__PROMOTION__RACES="6") == 6
    assert attempts([new], "promotion.races=8", RECSYS__PROMOTION__MAX_RETRIES_ON_CONFLICT="6") == 8


def test_both_names_at_once_are_refused_in_one_sentence(tmp_path: Path) -> None:
    said = "promotion.races is the former name of promotion.max_retries_on_conflict: give only promotion.max_retries_on_conflict."
    path = tmp_path / "x.yaml"
    path.write_text("promotion: {races: 2, max_retries_on_conflict: 4}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(RetrainSettings, str(path))
    assert str(caught.value) == f"{path} cannot be used: {said}"
    with pytest.raises(SettingsError) as caught:
        load_settings(RetrainSettings, None, ["promotion={races: 2, max_retries_on_conflict: 4}"])
    assert str(caught.value) == f"--set promotion cannot be used: {said}"
    with pytest.raises(SettingsError) as caught:
        load_settings(RetrainSettings, None, ["promotion.max_retries_on_conflict=4", "promotion.races=2"])
    assert str(caught.value) == (
        "--set promotion.races and --set promotion.max_retries_on_conflict are the former and the current name of one setting: "
        "give only --set promotion.max_retries_on_conflict."
    )
    with pytest.raises(SettingsError, match="RECSYS__VALUE__CURRENCY and RECSYS__BUSINESS_VALUE__CURRENCY are the former and"):
        load_settings(RetrainSettings, environment={variable("value.currency"): "A", variable("business_value.currency"): "B"})
    with pytest.raises(ValidationError, match="races is the former name of max_retries_on_conflict: give only"):
        PromotionSettings.model_validate({"races": 2, "max_retries_on_conflict": 4})


def test_listings_and_messages_use_the_current_name() -> None:
    found = {each.key: each for each in effective_settings(RetrainSettings, None, ["value={currency: EUR}", "promotion.races=2"])}
    assert (found["business_value.currency"].value, found["business_value.currency"].origin) == ("EUR", "--set value")
    assert found["promotion.max_retries_on_conflict"].origin == "--set promotion.races"
    assert not {"value.currency", "promotion.races"} & set(found)
    with pytest.raises(SettingsError, match=r"--set promotion\.races cannot be used: promotion\.max_retries_on_conflict: Input"):
        load_settings(RetrainSettings, None, ["promotion.races=0"])
    with pytest.raises(SettingsError, match="did you mean max_retries_on_conflict"):
        load_settings(RetrainSettings, None, ["promotion.max_retries_on_conflicts=2"])


def test_a_protocol_is_stored_under_the_id_that_it_always_had() -> None:
    for key in ("request_time", "query_time"):
        assert EvaluationSettings.model_validate({key: "last"}).protocol_id == "loo-exact;request_time=last"


@pytest.mark.parametrize(("old", "new"), renames.VALUES["ShiftSettings"]["name"].items())
def test_a_former_name_of_a_scenario_is_read(old: str, new: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"scenario: {{name: {old}, from_slice: 3}}\n")
    expected = ShiftSettings.model_validate({"name": new, "from_slice": 3})
    for found in (
        load_settings(ReplaySettings, str(tmp_path / "x.yaml")),
        load_settings(ReplaySettings, None, ["scenario.from_slice=3", f"scenario.name={old}"]),
        load_settings(ReplaySettings, environment={"RECSYS__SCENARIO": f"{{name: {old}, from_slice: 3}}"}),
        replay.validate_parameters({"settings": {"scenario": {"name": old, "from_slice": 3}}})["settings"],
    ):
        assert found.scenario == expected


def test_every_former_name_belongs_to_a_setting_and_is_not_a_setting_itself() -> None:
    models = {each.__name__: each for each in _all_models(RetrainSettings)} | {"ShiftSettings": ShiftSettings}
    models |= {"Pin": Pin, "Selection": Selection}
    for name, keys in renames.KEYS.items():
        assert set(keys.values()) <= set(models[name].model_fields) and not set(keys) & set(models[name].model_fields)
    tested = {tuple(old.split(".")) for old, *_ in RENAMED}
    of_rules = {"Pin", "Selection"}
    assert sum(len(keys) for name, keys in renames.KEYS.items() if name not in of_rules) == len(tested)


def test_a_file_of_rules_may_still_say_movies() -> None:
    def file(key: str) -> RuleFile:
        rules = [
            {"name": "pinned", "action": "pin", key: [5, 7]},
            {"name": "banned", "action": "exclude", "where": {key: [8]}},
        ]
        return RuleFile.model_validate({"rules": rules})

    assert file("movies") == file("items")
    with pytest.raises(ValueError, match="movies is the former name of items: give only items"):
        Pin.model_validate({"name": "x", "action": "pin", "movies": [5], "items": [5]})


def _all_models(model: type[RetrainSettings]) -> list[Any]:
    return [model, *(type(field.default) for field in model.model_fields.values())]


class Added(Settings):
    kept: int = 1
    """Known to every form."""
    added: int = 2
    """Added after the form was stored."""
    section: FloorSettings = FloorSettings()
    """Added as well."""


def test_a_setting_that_a_stored_form_does_not_know_is_left_out_if_it_has_its_default() -> None:
    form = {"properties": {"kept": {"type": "integer"}}, "additionalProperties": False}
    given = Added().model_dump(mode="json")
    assert names_of_form([Added], given, form, form) == {"kept": 1}
    assert names_of_form([Added], given | {"added": 3}, form, form) == {"kept": 1, "added": 3}, (
        "a value other than the default was lost silently"
    )
    section = {"hr_at_10": 0.2, "ndcg_at_10": 0.05}
    assert names_of_form([Added], given | {"section": section}, form, form) == {"kept": 1, "section": section}
