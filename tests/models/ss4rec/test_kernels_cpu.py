"""The numba kernels are tested as compiled and as the Python that numba compiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compiled import softplus
from models.ss4rec.kernels import cpu as kernels_cpu
from tests.models.ss4rec.test_scan import assert_backend_agrees, operations, with_gradients
from tests.volume import volume

KERNELS = (
    "_exp",
    "_complex_forward",
    "_complex_backward",
    "_selective_forward",
    "_selective_backward",
    "_convolution_forward",
    "_convolution_backward",
)


@pytest.fixture
def as_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KERNELS:
        monkeypatch.setattr(kernels_cpu, name, getattr(kernels_cpu, name).py_func)


@pytest.mark.usefixtures("as_python")
@pytest.mark.parametrize("lengths", [[3, 0, 1], [kernels_cpu.CHUNK + 2], [2, kernels_cpu.CHUNK]])
def test_the_kernels_as_written_equal_the_reference_in_float64_with_gradients(lengths: list[int]) -> None:
    assert_backend_agrees("cpu", torch.float32, 1e-5, lengths, channels=5, reference=torch.float64)


def test_the_compiled_kernels_equal_the_reference_in_float64_with_gradients() -> None:
    assert_backend_agrees("cpu", torch.float32, 2e-5, reference=torch.float64)


@given(st.floats(-87, 0, width=32))
@settings(max_examples=volume(60, 200), deadline=None)
def test_the_exponential_is_as_exact_as_documented(x: float) -> None:
    wanted = np.exp(np.float64(x))
    for exp in (kernels_cpu._exp, kernels_cpu._exp.py_func):
        assert abs(float(exp(np.float32(x))) / wanted - 1) < 3.1e-7


@given(st.floats(-(2.0**100), -87, width=32))
@settings(max_examples=50, deadline=None)
def test_the_exponential_of_any_lower_number_is_next_to_zero(x: float) -> None:
    for exp in (kernels_cpu._exp, kernels_cpu._exp.py_func):
        assert 0 <= float(exp(np.float32(x))) < 2e-38


def test_the_number_of_threads_changes_no_bit() -> None:
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(
                [with_gradients(run, inputs, "cpu") for _, run, inputs in operations([9, 0, 30, 1, 5], torch.float32, 4)]
            )
    finally:
        torch.set_num_threads(threads)
    for one, three in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


@given(st.floats(-80, 1e6, width=32))
def test_softplus_without_library_calls_equals_the_exact_formula(x: float) -> None:
    exact = np.logaddexp(0.0, x)
    assert softplus(np.float32(x)) == pytest.approx(exact, rel=1e-6)
    assert softplus.py_func(np.float32(x)) == pytest.approx(exact, rel=1e-6)
