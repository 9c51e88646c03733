from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.settings import PromotionSettings
from configs.significance import least_resamples
from configs.studies import CompareSettings, ReplaySettings
from models.evaluation import holm


@given(st.floats(1e-4, 0.5), st.integers(1, 60))
def test_the_least_resamples_let_a_test_be_significant_and_one_fewer_does_not(alpha: float, tests: int) -> None:
    def strongest(resamples: int) -> bool:
        p_values = {"moved": 1 / (resamples + 1)} | {str(number): 1.0 for number in range(tests - 1)}
        return holm(p_values, alpha)["moved"][1]

    least = least_resamples(alpha, tests)
    assert strongest(least)
    assert least == 1 or not strongest(least - 1)


def test_the_former_default_drift_settings_needed_this_many_resamples() -> None:
    assert least_resamples(0.01, 12) == 1199 and least_resamples(0.05, 1) == 19


@pytest.mark.parametrize(("alpha", "tests"), [(0.0, 1), (1.0, 1), (0.05, 0)])
def test_an_invalid_level_or_number_of_tests_is_refused(alpha: float, tests: int) -> None:
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        least_resamples(alpha, tests)


@pytest.mark.parametrize("name", ["alpha", "resamples", "bootstrap_seed"])
def test_the_settings_of_statistics_have_one_definition(name: str) -> None:
    fields = [model.model_fields[name] for model in (PromotionSettings, CompareSettings, ReplaySettings)]
    assert len({(field.default, field.description, str(field.metadata)) for field in fields}) == 1
