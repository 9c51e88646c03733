from __future__ import annotations

import pytest

from configs.errors import SettingsError
from configs.loading import load_settings, named_configs
from configs.settings import RetrainSettings
from configs.studies import CompareSettings, EntrySettings

TWO = "{name: a, kind: ncf}, {name: b, kind: ncf}"


def test_an_entry_is_its_preset_with_its_own_settings() -> None:
    paper = load_settings(RetrainSettings, "paper").models.ss4rec
    entry = EntrySettings(name="wide", kind="ss4rec", preset="paper", settings={"width": 96})
    assert entry.models.ss4rec == paper.model_copy(update={"width": 96})
    assert EntrySettings(name="plain", kind="ncf").models.ncf == RetrainSettings().models.ncf


def test_the_shipped_comparison_has_both_baselines_and_the_papers_preset() -> None:
    shipped = load_settings(CompareSettings, "compare")
    assert [entry.name for entry in shipped.entries] == ["popularity", "ncf", "ss4rec", "ss4rec-paper"]
    assert shipped.entry("ss4rec-paper").models.ss4rec == load_settings(RetrainSettings, "paper").models.ss4rec
    assert "compare" not in named_configs(RetrainSettings) and "best" not in named_configs(CompareSettings)


def test_popularity_draws_nothing_and_runs_once() -> None:
    settings = CompareSettings(seeds=(4, 5))
    assert [settings.seeds_of(entry) for entry in settings.entries] == [(4,), (4, 5), (4, 5)]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (f"entries=[{TWO}, {{name: b, kind: ncf}}]", "with distinct names, found a, b, b"),
        ("entries=[{name: a, kind: ncf}]", "entries must be two or more"),
        (f"entries=[{TWO}]", "reference is ss4rec, which is not one of the entries a, b"),
        ("entries=[{name: a/../b, kind: ncf}]", "entries.0.name: String should match pattern"),
        ("entries=[{name: a, kind: ncf, settings: {lr: 1}}]", "settings of a: lr is not a setting of ncf"),
        ("entries=[{name: a, kind: ncf, settings: {negatives: 0}}]", "settings of a: negatives: Input should be greater"),
        ("entries=[{name: a, kind: ncf, preset: compare}]", "the preset compare of a is not one of best, ml-1m"),
        ("entries=[{nam: a, kind: ncf}]", "entries.0.nam is not a setting; did you mean name?"),
        ("seeds=[1, 1]", "seeds [1, 1] must be distinct"),
        ("seeds=[]", "seeds: Tuple should have at least 1 item"),
        ("resamples=100", "none of 6 tests could be significant at 0.05: raise resamples to at least 119"),
        ("dataset=a/b/c", "dataset: String should match pattern"),
        ("id=../x", "id: String should match pattern"),
    ],
)
def test_the_error_names_the_key_and_the_remedy(override: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(CompareSettings, None, [override])
    assert said in str(caught.value)


def test_deployment_runs_get_no_credentials() -> None:
    with pytest.raises(SettingsError, match=r"store\.secret_access_key cannot be passed to deployment runs"):
        load_settings(CompareSettings, None, ["runner=deployments", "store.secret_access_key=abc"])
    assert load_settings(CompareSettings, None, ["store.secret_access_key=abc"]).store.secret_access_key is not None
