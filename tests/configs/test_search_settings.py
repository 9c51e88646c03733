from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.errors import SettingsError
from configs.kinds import Parameter, spec_of
from configs.loading import load_settings, named_configs
from configs.settings import RetrainSettings, SearchOrigin
from configs.studies import SearchSettings
from configs.studies.search import SearchOptions

DEFAULT_SPACE = spec_of("ss4rec").space
ORIGIN = SearchOrigin(study="s", record="searches/s/1.json", dataset="d/1", trials=3, best_trial=1, valid_ndcg_at_10=0.2)


def test_the_space_is_changed_parameter_by_parameter() -> None:
    overrides = ["search.space={width: {choices: [32]}, loss: null, weight_decay: {low: 0, high: 0.1, step: 0.05}}"]
    found = load_settings(SearchSettings, None, overrides).parameters
    assert found["width"].choices == (32,) and "loss" not in found and found["weight_decay"].high == 0.1
    assert found["blocks"] == DEFAULT_SPACE["blocks"]
    assert list(found) == [name for name in DEFAULT_SPACE if name != "loss"] + ["weight_decay"]


def test_settings_that_went_through_json_are_the_same() -> None:
    before = load_settings(SearchSettings, None, ["search.space.loss=null", "search.trials=3"])
    again = SearchSettings.model_validate(json.loads(before.model_dump_json()))
    assert again == before and "loss" not in again.parameters


@pytest.mark.parametrize("name", named_configs(RetrainSettings))
def test_files_for_a_retraining_work_for_a_search_too(name: str) -> None:
    found = load_settings(SearchSettings, name)
    assert found.models == load_settings(RetrainSettings, name).models


def test_the_default_space_contains_the_default_settings() -> None:
    model = SearchSettings().models.ss4rec
    assert all(parameter.holds(getattr(model, name)) for name, parameter in DEFAULT_SPACE.items())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("search.space.widht={choices: [64]}", "search.space.widht is not a setting of SS4Rec; did you mean width?"),
        (
            "search.space.replicas={choices: [1, 2]}",
            "search.space.replicas cannot be searched: replicas sets where a model is trained",
        ),
        ("search.space.zzz={choices: [64]}", "search.space.zzz is not a setting of SS4Rec; the settings are width"),
        ("search.space.dropout={low: 0.1, high: 1.5}", "search.space.dropout cannot be 1.5: Input should be less than 1"),
        ("search.space.width={choices: [2, 64]}", "search.space.width cannot be 2: Input should be greater than or equal to 4"),
        ("search.space.blocks={low: 1.5, high: 3}", "search.space.blocks cannot be 1.5: Input should be a valid integer"),
        ("search.space.blocks={low: 1, high: 3, step: 0.5}", "search.space.blocks has a step of 0.5"),
        ("search.space.interval={low: 0, high: 1}", "search.space.interval has low and high, but interval is not a number"),
        ("search.space.two_norms={low: 0, high: 1}", "two_norms is not a number"),
        ("search.space.loss={choices: [hinge]}", "search.space.loss cannot be 'hinge'"),
        (
            "search.space={step_min: {choices: [0.2]}}",
            "search.space.step_min cannot be 0.2: step_min (0.2) must be below step_max",
        ),
        (
            "search.space={step_min: {low: 0.001, high: 0.05}, step_max: {low: 0.04, high: 0.5}}",
            "search.space allows step_min 0.05 together with step_max 0.04",
        ),
        ("search.space.width={choices: [64], low: 1}", "search.space.width: give either choices, or low and high"),
        ("search.space.width={}", "search.space.width: give either choices, or low and high"),
        ("search.space.width={low: 8}", "low (8) and high (None) must both be given"),
        ("search.space.width={low: 9, high: 8}", "low not above high"),
        ("search.space.width={choices: [64], log: true}", "step and log go with low and high"),
        ("search.space.weight_decay={low: 0, high: 1, log: true}", "a logarithmic scale must start above 0"),
        ("search.space.width={lo: 1}", "search.space.width.lo is not a setting; did you mean low?"),
        ("search.space.width={choices: []}", "search.space.width.choices"),
        ("search.study=../x", "search.study"),
        ("search.trails=3", "search.trails is not a setting; did you mean trials?"),
        (f"search.space={json.dumps(dict.fromkeys(DEFAULT_SPACE))}", "search.space leaves nothing to search"),
    ],
)
def test_a_space_that_ss4rec_cannot_have_is_refused_by_name(override: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(SearchSettings, None, [override])
    assert said in str(caught.value)


@given(low=st.integers(-50, 50), steps=st.integers(0, 20), step=st.floats(0.01, 3), other=st.floats(-100, 100))
def test_a_range_contains_its_steps_and_nothing_outside(low: int, steps: int, step: float, other: float) -> None:
    high = low + 20 * step
    parameter = Parameter(low=low, high=high + 1e-6, step=step)
    assert parameter.holds(low + steps * step)
    assert not parameter.holds(low + (steps + 0.5) * step)
    assert not parameter.holds(other) or low <= other <= high + 1e-6


def test_the_best_settings_are_those_of_a_retraining_without_the_search() -> None:
    overrides = [
        "search.storage=postgresql://me:pa55word@db/x",
        "store.secret_access_key=key",
        "seed=4",
        "models.ss4rec.max_length=30",
    ]
    settings = load_settings(SearchSettings, None, overrides)
    best = settings.with_parameters({"width": 128, "loss": "gbce"}, ORIGIN)
    assert type(best) is RetrainSettings and best.searched == ORIGIN
    assert (best.models.ss4rec.width, best.models.ss4rec.loss, best.models.ss4rec.max_length) == (128, "gbce", 30)
    assert best.store.secret_access_key is not None and best.store.secret_access_key.get_secret_value() == "key"
    rest = {"models", "searched"}
    assert best.model_dump(exclude=rest) == settings.model_dump(exclude={*rest, "search"})
    for shown in (repr(settings), settings.model_dump_json(), repr(best), best.model_dump_json()):
        assert "pa55word" not in shown


def test_a_study_has_at_least_one_trial_and_worker() -> None:
    for wrong in ({"trials": 0}, {"workers": 0}, {"seconds": 0}, {"lost_after_s": 0}):
        with pytest.raises(ValidationError):
            SearchOptions.model_validate(wrong)
