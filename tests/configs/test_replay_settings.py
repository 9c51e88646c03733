from __future__ import annotations

import pytest

from configs.errors import SettingsError
from configs.loading import load_settings, named_configs
from configs.studies import ReplaySettings


def test_setting_part_of_a_section_keeps_the_replays_own_defaults_for_the_rest() -> None:
    own = ReplaySettings()
    set_ = ["models.ss4rec.max_epochs=3", "monitoring.clock=wall", "promotion.rule=non-inferior", "report.requests=7"]
    found = load_settings(ReplaySettings, None, set_)
    assert found.models.ss4rec.width == own.models.ss4rec.width and found.models.ss4rec.max_epochs == 3
    assert found.baselines == ("popularity",) and found.promotion.baselines is None
    assert not found.monitoring.evidently and not found.report.evidently
    assert load_settings(ReplaySettings, None, ["baselines=[popularity, ncf]"]).kinds == ("popularity", "ncf", "ss4rec")
    assert ReplaySettings.model_validate(own.model_dump(mode="json")) == own
    assert {"quick", "ml-1m"} <= set(named_configs(ReplaySettings))


def test_policies_that_are_set_replace_all_default_ones() -> None:
    found = load_settings(ReplaySettings, None, ["policies={daily: {volume: 0.01, least_days: 1}}"])
    (daily,) = found.policies.values()
    assert list(found.policies) == ["daily"] and daily.model_dump(exclude_defaults=True) == {"volume": 0.01, "least_days": 1.0}
    assert found.model_of("daily") == "replay-daily"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("policies={}", "policies: Dictionary should have at least 1 item"),
        ("policies={Not good: {}}", "the policy name 'Not good' must consist of up to 32 of a-z, 0-9 and -"),
        ("data.landing=somewhere", "data.landing must be empty"),
        ("resamples=100", "with 100 resamples no p-value is below 0.0099"),
        ("scenario={name: flood, from_slice: 1}", "scenario.name: Input should be 'genre-surge'"),
        ("policies={a: {evry: week}}", "policies.a.evry is not a setting; did you mean every?"),
    ],
)
def test_the_error_names_an_impossible_setting(override: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(ReplaySettings, None, [override])
    assert said in str(caught.value)
