from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation import holm, paired_test
from tasks.comparison.results import Cell, significance_matrix

R = 400


def values(seed: int, lift: float = 0.0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).random(R) + lift


def cells(found: list[Cell]) -> dict[tuple[str, str], Cell]:
    return {(cell.entry, cell.other): cell for cell in found}


def test_a_cell_tells_whether_the_row_is_better_than_the_column() -> None:
    base = values(0)
    found = cells(significance_matrix({"low": base, "high": base + 0.1, "same": base}, alpha=0.05, resamples=2000, seed=1))
    assert set(found) == {(a, b) for a in ("low", "high", "same") for b in ("low", "high", "same") if a != b}
    assert found["high", "low"].significant and found["high", "same"].significant
    assert not found["low", "high"].significant and found["low", "high"].p_value == 1.0
    assert np.isclose(found["high", "low"].difference, 0.1) and np.isclose(found["low", "high"].difference, -0.1)
    assert not found["same", "low"].significant and not found["low", "same"].significant and found["low", "same"].difference == 0


@pytest.mark.full
def test_holms_correction_covers_all_cells_together() -> None:
    entries = {"a": values(1, 0.05), "b": values(2), "c": values(3, 0.02), "d": values(4)}
    found = cells(significance_matrix(entries, alpha=0.05, resamples=2000, seed=1))
    raw = {
        f"{a}/{b}": paired_test(entries[a], entries[b], resamples=2000, seed=1).p_value
        for a in entries
        for b in entries
        if a != b
    }
    corrected = holm(raw, 0.05)
    assert len(found) == 12
    for (a, b), cell in found.items():
        assert (cell.p_value, (cell.adjusted, cell.significant)) == (raw[f"{a}/{b}"], corrected[f"{a}/{b}"])
    least = min(found.values(), key=lambda cell: cell.p_value)
    assert least.adjusted == min(1.0, 12 * least.p_value)


@given(st.integers(0, 10_000), st.floats(-0.2, 0.2))
def test_no_two_entries_are_each_shown_better_than_the_other(seed: int, lift: float) -> None:
    found = cells(significance_matrix({"a": values(seed, lift), "b": values(seed + 1)}, alpha=0.05, resamples=200, seed=3))
    ab, ba = found["a", "b"], found["b", "a"]
    assert not (ab.significant and ba.significant)
    assert np.isclose(ab.difference, -ba.difference) and np.isclose(ab.low, -ba.high) and np.isclose(ab.high, -ba.low)
    assert ab.adjusted >= ab.p_value and ba.adjusted >= ba.p_value
