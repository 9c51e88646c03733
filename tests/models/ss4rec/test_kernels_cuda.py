"""The Triton kernels in Triton's interpreter, which needs no GPU: they are compiled from the lines that run here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = [
    "outputs_states_and_gradients_equal_the_reference",
    "a_window_of_any_length_leaves_its_neighbours_alone",
    "half_precision_inputs_give_the_same_to_their_precision",
    "states_stay_in_float32_if_the_inputs_are_in_half_precision",
    "long_intervals_stay_finite",
    "without_gradients_the_selective_scan_equals_the_reference",
    "without_gradients_nothing_is_kept_for_the_backward_pass",
    "slices_of_wider_rows_are_read_in_place",
    "the_whole_network_equals_the_reference_with_gradients_and_states",
    "the_loss_over_the_catalogue_equals_torchs",
    "between_layers_values_are_dropped_added_and_normalised_and_the_backward_pass_draws_the_same_ones",
    "in_half_precision_the_network_learns_what_the_reference_learns",
    "a_step_on_all_weights_as_one_vector_equals_torchs",
    "what_is_compiled_ahead_is_what_training_runs",
]


@pytest.fixture(scope="module")
def found() -> dict[str, str | None]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.ss4rec.interpreted"],
        env={
            **os.environ,
            "TRITON_INTERPRET": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    checks: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return checks


@pytest.mark.full
@pytest.mark.parametrize("check", CHECKS)
def test_the_check_passes_in_the_interpreter(check: str, found: dict[str, str | None]) -> None:
    assert found.keys() == set(CHECKS)
    assert found[check] is None, found[check]
