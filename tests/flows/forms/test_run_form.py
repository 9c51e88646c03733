"""The form of a run: which value counts, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from configs.errors import SettingsError
from configs.loading import load_settings
from configs.settings import RetrainSettings
from configs.studies import CompareSettings
from flows.forms import RunForm, first_sentence

FORM = RunForm(RetrainSettings, ("model_name", "data.source", "store.url"))


def read(**given: Any) -> RetrainSettings:
    return FORM.settings(given)


def test_an_empty_form_stands_for_the_defaults() -> None:
    assert read() == read(preset="default", advanced={}) == RetrainSettings()


def test_a_preset_is_what_the_command_line_makes_of_the_file() -> None:
    assert read(preset="quick") == load_settings(RetrainSettings, ["quick"])
    assert FORM.presets == ["default", "best", "ml-1m", "paper", "promotion", "quick"]
    assert RunForm(CompareSettings, ()).presets == ["default", "compare", "ml-1m"]


def test_a_flow_offers_the_presets_of_the_sections_that_it_uses() -> None:
    assert RunForm(RetrainSettings, (), ("data", "store")).presets == ["default", "ml-1m"]
    assert RunForm(RetrainSettings, (), ("export", "store")).presets == ["default"]


def test_each_place_counts_above_those_before_it() -> None:
    deployment = {"data": {"source": "ml-20m"}, "models": {"ss4rec": {"width": 8, "blocks": 3}}, "store": {"attempts": 9}}
    assert read(**deployment).data.source == "ml-20m"
    assert read(**deployment, preset="ml-1m").data.source == "ml-1m"
    filled = read(**deployment, preset="ml-1m", **{"data.source": "ml-25m"})
    assert filled.data.source == "ml-25m"
    advanced = read(**deployment, preset="quick", **{"data.source": "ml-25m"}, advanced={"data": {"source": "ml-latest"}})
    assert advanced.data.source == "ml-latest"
    assert (advanced.models.ss4rec.width, advanced.models.ss4rec.max_epochs, advanced.store.attempts) == (16, 2, 9)


def test_advanced_takes_the_keys_of_the_command_line_and_sections() -> None:
    one = read(advanced={"models.ss4rec.width": 24, "promotion.alpha": 0.01})
    assert one == read(advanced={"models": {"ss4rec": {"width": 24}}, "promotion": {"alpha": 0.01}})
    assert one == load_settings(RetrainSettings, (), ["models.ss4rec.width=24", "promotion.alpha=0.01"])
    assert one.models.ss4rec.blocks == RetrainSettings().models.ss4rec.blocks, "a part of a section keeps the other parts"
    assert read(advanced={"promotion.races": 7}).promotion.max_retries_on_conflict == 7, "a former name is read"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"preset": "quik"}, "There is no preset 'quik'. The presets are default, best, ml-1m, paper, promotion, quick."),
        ({"preset": "../best"}, "There is no preset '../best'. "),
        (
            {"advanced": {"models.ss4rec.wdth": 8}},
            "The field advanced cannot be used: models.ss4rec.wdth is not a setting; did you mean width?",
        ),
        (
            {"advanced": {"promotion": {"alpha": 3}}},
            "The field advanced cannot be used: promotion.alpha: Input should be less than 1 (given 3).",
        ),
        ({"advanced": [1]}, "advanced must hold settings by their keys, such as"),
        ({"data.source": "ml-9"}, "The form cannot be used: data.source: Input should be 'ml-100k', "),
        ({"store": {"url": "ftp:x"}}, "The parameters of the run cannot be used: store.url: write file:<folder> for a folder"),
        (
            {"promotion": {"races": 1, "max_retries_on_conflict": 2}},
            "The parameters of the run cannot be used: promotion.races is ",
        ),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence_that_names_its_place(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        FORM.settings(given)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_a_description_is_one_plain_sentence_that_both_user_interfaces_show_alike() -> None:
    said = first_sentence("A folder or s3://<bucket>/<prefix>\nfor files. If empty, none.")
    assert said == "A folder or s3://BUCKET/PREFIX for files."
    assert first_sentence("Address: `file:<folder>`.") == "Address: file:FOLDER."
