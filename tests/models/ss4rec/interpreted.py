"""Checks of the Triton kernels in Triton's interpreter: `TRITON_INTERPRET=1 python -m tests.models.ss4rec.interpreted`.

Triton reads the variable when it is imported, so the checks run in a separate process. It prints a JSON object: the name of each check
and what went wrong in it, or null.
"""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from configs.settings import EvaluationSettings, SS4RecSettings
from models.evaluation import split
from models.losses import catalogue as loss
from models.ss4rec import SS4Rec, SS4RecNetwork, precompile
from models.ss4rec.kernels import (
    causal_convolution,
    convolution_cuda,
    norm_cuda,
    scan_cuda,
    selective_cuda,
    selective_scan,
    time_cuda,
    time_scan,
)
from models.ss4rec.kernels.residual_cuda import AddAndNormalise
from models.training import flat
from tests import synthetic
from tests.models.ss4rec.test_scan import assert_backend_agrees, segments
from tests.plain_ss4rec import PLAIN

CPU = torch.device("cpu")
KERNELS = {name: module for module in (convolution_cuda, norm_cuda, selective_cuda, time_cuda) for name in module.__all__}
ONE = SS4RecSettings(
    **PLAIN, width=16, blocks=1, time_state=5, relation_state=3, max_length=12, batch_tokens=40, max_epochs=1, device="cpu", interval="learned"
)  # fmt: skip


def outputs_states_and_gradients_equal_the_reference() -> None:
    assert_backend_agrees("cuda", torch.float32, 1e-5, [5, 0, 1, 9], reference=torch.float64)


def a_window_of_any_length_leaves_its_neighbours_alone() -> None:
    for lengths in ([1], [0, 4], [5, 0], [3, 8]):
        assert_backend_agrees("cuda", torch.float64, 1e-6, lengths, channels=18)


def half_precision_inputs_give_the_same_to_their_precision() -> None:
    assert_backend_agrees("cuda", torch.bfloat16, 0.05, [6], channels=8, reference=torch.float64)


def states_stay_in_float32_if_the_inputs_are_in_half_precision() -> None:
    drive, intervals = torch.randn(6, 8, dtype=torch.bfloat16), torch.rand(6) * 100
    rate, angle, steps = -torch.rand(4), torch.randn(4), torch.randn(4) - 4
    h, final = time_scan(drive, intervals, rate, angle, steps, segments([6]), backend="cuda")
    exact, _ = time_scan(drive.float(), intervals, rate, angle, steps, segments([6]), backend="reference")
    assert h.dtype == final.dtype == torch.float32
    torch.testing.assert_close(h, exact, rtol=1e-4, atol=1e-4)


def long_intervals_stay_finite() -> None:
    for interval in (0.0, 1e-3, 1e5, 3e7):
        rate, steps = -torch.tensor([1e-4, 0.5, 50.0]), torch.tensor([-12.0, -2.0, 4.0])
        leaves = [value.requires_grad_() for value in (rate, torch.tensor([200.0, -200.0, 0.0]), steps, torch.randn(5, 6))]
        h, final = time_scan(leaves[3], torch.full((5,), interval), *leaves[:3], segments([5]), backend="cuda")
        found = [h, final, *torch.autograd.grad(h.sum() + final.sum(), leaves)]
        assert all(bool(torch.isfinite(value).all()) for value in found), interval


def without_gradients_the_selective_scan_equals_the_reference() -> None:
    torch.manual_seed(0)
    spans, wide, narrow = segments([5, 6]), torch.randn(11, 8), torch.randn(11, 3)
    given = (wide, wide.flip(0), wide.flip(1), torch.randn(8, 3), narrow, narrow.flip(0), torch.randn(8), torch.randn(8), spans)
    with torch.no_grad():
        fast = selective_scan(*given, backend="cuda")
        exact = selective_scan(*given, backend="reference")
    for a, b in zip(fast, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def without_gradients_nothing_is_kept_for_the_backward_pass() -> None:
    spans, wide, narrow = segments([5, 6]), torch.ones(11, 8), torch.ones(11, 3)
    given = (wide, wide, wide, torch.ones(8, 3), narrow, narrow, torch.ones(8), torch.ones(8), spans)
    forward, sizes = selective_cuda.selective_forward, []
    names = list(inspect.signature(forward.fn).parameters)

    class Measured:
        def __getitem__(self, grid: Any) -> Callable[..., None]:
            def launch(*arguments: Any, **constants: Any) -> None:
                passed = dict(zip(names, arguments, strict=False)) | constants
                sizes.append((passed["KEEP"], *(len(passed[name]) for name in ("before_gate", "kept"))))
                forward[grid](*arguments, **constants)

            return launch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selective_cuda, "selective_forward", Measured())
        with torch.no_grad():
            selective_scan(*given, backend="cuda")
        selective_scan(*given, backend="cuda")
    assert sizes == [(False, 0, 1), (True, 11, spans.slots(scan_cuda.CHUNK))]  # one state, because Triton needs an address


def slices_of_wider_rows_are_read_in_place() -> None:
    torch.manual_seed(0)
    both, weight, bias = torch.randn(9, 24, requires_grad=True), torch.randn(12, 4), torch.randn(12)
    for part in both.chunk(2, dim=1):
        assert part.stride(0) == 24
        found = [causal_convolution(part, weight, bias, segments([4, 5]), backend=name) for name in ("cuda", "reference")]  # type: ignore[arg-type]
        torch.testing.assert_close(*found)
        grads = [torch.autograd.grad(y.square().sum(), both, retain_graph=True)[0] for y in found]
        torch.testing.assert_close(*grads)


def the_whole_network_equals_the_reference_with_gradients_and_states() -> None:
    torch.manual_seed(0)
    network = SS4RecNetwork(30, ONE).eval()
    lengths = [7, 1, 6]
    items, gaps = torch.randint(1, 31, (14,)), torch.rand(14) * 900
    found = []
    for backend in ("cuda", "reference"):
        hidden = network(items, gaps, segments(lengths), backend)  # type: ignore[arg-type]
        network.zero_grad()
        F.cross_entropy(network.logits(hidden), items - 1).backward()
        halfway, _ = network.advance(network.start(1), items[8:11], gaps[8:11], segments([3]), backend)  # type: ignore[arg-type]
        _, rest = network.advance(halfway, items[11:], gaps[11:], segments([3]), backend)  # type: ignore[arg-type]
        torch.testing.assert_close(rest, hidden[11:], rtol=1e-4, atol=1e-5)
        _, stepped = network.step(halfway, items[11:12], gaps[11:12], backend)  # type: ignore[arg-type]
        torch.testing.assert_close(stepped, hidden[11:12], rtol=1e-4, atol=1e-5)
        found.append(
            [hidden.detach(), halfway.values.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]
        )
    assert len(found[0]) == 2 + len(list(network.parameters()))
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5 * max(1.0, float(wanted.abs().max())))


def the_loss_over_the_catalogue_equals_torchs() -> None:
    torch.manual_seed(0)
    hidden, targets = torch.randn(7, 4), torch.randint(0, 4500, (7,))
    targets[2] = -1  # no target
    for items, smoothing, held in ((4500, 0.1, 3 * 4500), (40, 0.0, 1 << 20), (40, 0.2, 1 << 20)):
        weight = torch.randn(items, 4)
        wanted = torch.where(targets >= 0, targets % items, -1)
        loss.CUDA_ELEMENTS = held
        for factors in (None, torch.rand(7) + 0.1):
            found, on_hidden, on_weight = loss._on_cuda(hidden, weight, wanted, smoothing, torch.tensor(6.0), factors)
            leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
            each = F.cross_entropy(leaves[0] @ leaves[1].T, wanted, label_smoothing=smoothing, ignore_index=-1, reduction="none")
            exact = (each if factors is None else each * factors).sum() / 6
            torch.testing.assert_close(found, exact)
            for ours, theirs in zip((on_hidden, on_weight), torch.autograd.grad(exact, leaves), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def what_is_compiled_ahead_is_what_training_runs() -> None:
    for settings in (ONE, ONE.model_copy(update={"relation_state": 8, "interval": "seconds", "conv_width": 3})):
        with recorded() as ahead:
            precompile.precompile(settings, torch.float32, CPU, threads=1)()
        frame = synthetic.interactions(5, 30, 6)
        parts = split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))
        model = SS4Rec(settings)
        model._backend = "cuda"
        with recorded() as run:
            model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
        assert {kernel for kernel, _ in run} == set(KERNELS)
        assert run <= ahead, f"not compiled ahead: {run - ahead}"
    for layers, absent in (("time", "selective_forward"), ("relation", "time_forward")):
        with recorded() as ahead:
            precompile.precompile(ONE.model_copy(update={"layers": layers}), torch.float32, CPU, threads=1)()
        assert ahead and absent not in {kernel for kernel, _ in ahead}


@contextmanager
def recorded() -> Iterator[set[tuple[str, tuple[Any, ...]]]]:
    """Record what Triton would compile each launch for: types, alignment, divisibility, constants. Counts that depend on the
    data (of tokens and of chunks) are left out, because a kernel for such a count is compiled when the count is met."""
    launches: set[tuple[str, tuple[Any, ...]]] = set()

    class Recorder:
        def __init__(self, name: str, kernel: Any) -> None:
            self._name, self._kernel = name, kernel
            self._arguments = list(inspect.signature(kernel.fn).parameters)

        def __getitem__(self, grid: Any) -> Callable[..., None]:
            def launch(*given: Any, **constants: Any) -> None:
                key: list[Any] = [(name, str(value)) for name, value in sorted(constants.items())]
                for name, value in zip(self._arguments, given, strict=False):
                    if isinstance(value, torch.Tensor):
                        key.append((name, value.dtype, value.data_ptr() % 16 == 0))
                    elif name not in ("tokens", "chunks", "each"):
                        key.append((name, value == 1, value % 16 == 0))
                launches.add((self._name, tuple(key)))
                self._kernel[grid](*given, **constants)

            return launch

    with pytest.MonkeyPatch.context() as patch:
        for name, module in KERNELS.items():
            patch.setattr(module, name, Recorder(name, getattr(module, name)))
        yield launches


def between_layers_values_are_dropped_added_and_normalised_and_the_backward_pass_draws_the_same_ones() -> None:
    torch.manual_seed(0)
    for width, skips, dropped in ((52, True, 64), (32, False, 0)):
        x, y = (torch.randn(300, width, requires_grad=True) for _ in range(2))
        skip, weight, bias = (torch.randn(width, requires_grad=True) for _ in range(3))
        given = (skip if skips else None, weight, bias, 1e-12, dropped)

        def drawn(x: torch.Tensor, y: torch.Tensor, given: Any, half: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
            torch.manual_seed(7)
            return AddAndNormalise.apply(x, y, *given, half)  # type: ignore[no-untyped-call, no-any-return]

        plain = (None, torch.ones(width), torch.zeros(width), 1e-12, dropped)
        kept = drawn(torch.zeros_like(x), torch.arange(1.0, width + 1).expand(300, -1), plain, torch.float32)[0]
        least = kept.amin(dim=1, keepdim=True)
        mask = torch.where(kept > least, 256 / (256 - dropped), 0.0) if dropped else torch.ones(300, width)
        if dropped:
            assert abs(float((mask > 0).float().mean()) - (256 - dropped) / 256) < 0.02
        for half in (torch.float32, torch.bfloat16):
            out, read = drawn(x, y, given, half)
            exact = F.layer_norm(x + mask * (y + skip * x if skips else y), (width,), weight, bias, 1e-12)
            assert read.dtype == half
            torch.testing.assert_close(out, exact, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(read, exact.to(half), rtol=1e-2, atol=1e-2)
            one, two = torch.randn_like(out), torch.randn_like(read)
            leaves = [x, y, weight, bias, *([skip] if skips else [])]
            found = torch.autograd.grad([out, read], leaves, [one, two])
            for ours, theirs in zip(found, torch.autograd.grad(exact, leaves, one + two.float()), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def in_half_precision_the_network_learns_what_the_reference_learns() -> None:
    torch.manual_seed(0)
    network = SS4RecNetwork(30, ONE.model_copy(update={"dropout": 0.0, "embedding_dropout": 0.0})).train()
    items, gaps, found = torch.randint(1, 31, (14,)), torch.rand(14) * 900, []
    for backend, half in (("cuda", True), ("reference", False)):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            hidden = network(items, gaps, segments([7, 1, 6]), backend)  # type: ignore[arg-type]
        assert (hidden.dtype == torch.bfloat16) is half
        F.cross_entropy(network.logits(hidden.float()), items - 1).backward()
        found.append({name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None})
    assert len(found[0]) == len(list(network.parameters()))
    for name, wanted in found[1].items():
        assert float((found[0][name] - wanted).norm() / wanted.norm()) < 0.06, name


def a_step_on_all_weights_as_one_vector_equals_torchs() -> None:
    found = []
    for take_step in (flat.take_step_with_kernels, flat.take_step_in_torch):
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(*shape)) for shape in ((40, 70), (5,), (3, 3))]
        own = flat.FlatWeights(weights, [True, False, True], averaged=True)
        numbers = [torch.zeros(()) for _ in range(4)]
        step, first_bad = torch.zeros((), dtype=torch.int64), torch.full((), -1, dtype=torch.int64)
        counts = flat.StepCounts(torch.tensor([0.01, 0.02, 0.03, 0.01, 0.01, 0.01]), step, *numbers[:3], first_bad, numbers[3])
        for number in range(6):
            own.gradients.copy_([torch.randn_like(weight) for weight in own.parameters])
            if number == 4:
                own.gradients.views[-1][0] = torch.nan
            with torch.no_grad():
                take_step(own, torch.tensor(1.5 + number), counts, flat.StepChange(5.0, 0.1, 0.9))
        assert own.averages is not None and own.bad_parameters() == {weights[1]}
        found.append([own.weights.values, own.means.values, own.squares.values, own.averages.values, step, first_bad, *numbers])
    assert int(found[0][5]) == 4 and float(found[0][7]) == 4  # the steps before the one that was not finite
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


CHECKS: list[Callable[[], None]] = [
    outputs_states_and_gradients_equal_the_reference,
    a_window_of_any_length_leaves_its_neighbours_alone,
    half_precision_inputs_give_the_same_to_their_precision,
    states_stay_in_float32_if_the_inputs_are_in_half_precision,
    long_intervals_stay_finite,
    without_gradients_the_selective_scan_equals_the_reference,
    without_gradients_nothing_is_kept_for_the_backward_pass,
    slices_of_wider_rows_are_read_in_place,
    the_whole_network_equals_the_reference_with_gradients_and_states,
    the_loss_over_the_catalogue_equals_torchs,
    between_layers_values_are_dropped_added_and_normalised_and_the_backward_pass_draws_the_same_ones,
    in_half_precision_the_network_learns_what_the_reference_learns,
    a_step_on_all_weights_as_one_vector_equals_torchs,
    what_is_compiled_ahead_is_what_training_runs,
]


def main() -> None:
    found: dict[str, str | None] = {}
    for check in CHECKS:
        try:
            check()
            found[check.__name__] = None
        except Exception:
            found[check.__name__] = traceback.format_exc()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
