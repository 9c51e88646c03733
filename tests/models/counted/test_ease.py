from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from configs.errors import TrainingError
from models.ease import EASE, EASESettings, item_weights, refuse_too_many
from models.ease.memory import BYTES_OF_A_PAIR, machine_gib
from models.recommender import Requests, Sequences


def closed_form(dense: np.ndarray, regularisation: float) -> np.ndarray:
    """Return the weights by the formula of the paper, with numpy's inverse."""
    inverse = np.linalg.inv(dense.T @ dense + regularisation * np.eye(dense.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@given(st.integers(1, 30), st.integers(1, 12), st.floats(0.1, 500), st.integers(0, 2**16))
def test_the_weights_are_those_of_the_closed_form(users: int, items: int, regularisation: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = (rng.random((users, items)) < 0.4) * rng.uniform(0.2, 2, (users, items))
    found = item_weights(csr_array(dense), regularisation)
    np.testing.assert_allclose(found, closed_form(dense, regularisation), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_blocks_make_no_difference(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = (np.random.default_rng(1).random((50, 20)) < 0.3).astype(float)
    monkeypatch.setattr("models.ease.closed_form.ROWS_AT_ONCE", rows)
    monkeypatch.setattr("models.cooccurrence.matrix.ROWS_AT_ONCE", rows + 1)
    np.testing.assert_allclose(item_weights(csr_array(dense), 3.0), closed_form(dense, 3.0), rtol=1e-4, atol=1e-6)


def test_scores_are_the_history_times_the_weights() -> None:
    train = Sequences(np.array([1, 2, 3]), np.array([0, 3, 5, 8]), np.array([10, 20, 30, 10, 20, 20, 30, 40]), np.arange(8))
    catalogue = np.array([10, 20, 30, 40])
    asked = Requests(
        np.array([9, 9]), np.array([0, 3, 3]), np.array([20, 77, 20]), np.array([1, 2, 3]),
        request_times=np.array([4, 4]), targets=np.array([10, 10]),
    )  # fmt: skip
    model = EASE(EASESettings(regularisation=2.0))
    model.fit(train, asked, catalogue, seed=0, mask_seen=True)
    dense = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]], float)
    found = model.scores(asked).numpy()
    np.testing.assert_allclose(
        found[0], closed_form(dense, 2.0)[1], rtol=1e-5
    )  # a repeat counts once, an unknown item not at all
    np.testing.assert_allclose(found[1], np.log1p([2, 3, 2, 1]), rtol=1e-6)


def test_a_catalogue_that_does_not_fit_is_refused_with_the_figure_and_the_remedy() -> None:
    refuse_too_many(26_000, 8.0, machine=16.0)
    with pytest.raises(
        TrainingError, match=r"^EASE needs 111\.8 GiB for the weights between 100,000 items, and models\.ease\.memory_gib"
    ) as told:
        refuse_too_many(100_000, 8.0, machine=256.0)
    assert "allows 8 GiB: raise it, raise evaluation.k_core until at most 26,754 items are left" in str(told.value)
    with pytest.raises(TrainingError, match=r"this machine has 2\.0 GiB: train on a larger machine"):
        refuse_too_many(26_000, 8.0, machine=2.0)
    model = EASE(EASESettings(memory_gib=1e-6))
    nothing = np.empty(0, np.int64)
    train = Sequences(np.array([1]), np.array([0, 2]), np.array([1, 2]), np.array([1, 2]))
    valid = Requests(nothing, np.zeros(1, np.int64), nothing, nothing, request_times=nothing, targets=nothing)
    with pytest.raises(TrainingError, match="1,000 items"):
        model.fit(train, valid, np.arange(1000), seed=0, mask_seen=True)


def test_the_peak_of_memory_is_what_the_refusal_counts_with(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    size = 700
    monkeypatch.setattr("models.ease.closed_form.ROWS_AT_ONCE", 32)
    monkeypatch.setattr("models.cooccurrence.matrix.ROWS_AT_ONCE", 32)
    events = csr_array((np.random.default_rng(0).random((40, size)) < 0.1).astype(np.float32))
    tracemalloc.start()
    item_weights(events, 10.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * BYTES_OF_A_PAIR * size**2


@pytest.mark.parametrize("name", ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"])
def test_the_limit_of_a_container_counts_as_the_machine(name: str, tmp_path: Path) -> None:
    whole = machine_gib(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("max\n")
    assert machine_gib(tmp_path) == whole > 0
    (tmp_path / name).write_text(f"{1 << 28}\n")
    assert machine_gib(tmp_path) == 0.25
