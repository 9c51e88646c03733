"""Every backend of the recurrences equals the equations. Both layers equal the libraries that they re-implement."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from s5 import S5

from configs.errors import TrainingError
from models.ss4rec.kernels import Backend, causal_convolution, resolve_backend, selective_scan, time_scan
from models.ss4rec.relation_aware import RelationAwareLayer
from models.ss4rec.time_aware import TimeAwareLayer
from models.windows import Segments
from tests.doubles import mamba_kernels

LENGTHS = [5, 0, 1, 17, 33]
Outputs = torch.Tensor | tuple[torch.Tensor, ...]


def segments(lengths: list[int]) -> Segments:
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    return Segments.of(offsets, sum(lengths))


def operations(
    lengths: list[int], dtype: torch.dtype, seed: int, longest_interval: float = 500.0, channels: int = 37
) -> list[tuple[str, Callable[..., Outputs], list[torch.Tensor]]]:
    """The three operations over windows of these lengths, each with its inputs."""
    generator = torch.Generator().manual_seed(seed)
    tokens, windows, p, d, n = sum(lengths), len(lengths), 5, channels, 6
    spans = segments(lengths)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator, dtype=dtype) * scale).requires_grad_()

    def even(*shape: int, low: float, high: float) -> torch.Tensor:
        return (torch.rand(*shape, generator=generator, dtype=dtype) * (high - low) + low).requires_grad_()

    time = [
        normal(tokens, 2 * p), even(tokens, low=0, high=longest_interval), even(p, low=-1.1, high=-0.1), normal(p, scale=3),
        even(p, low=-7, high=-2), normal(windows, 2 * p),
    ]  # fmt: skip
    selective = [
        normal(tokens, d), normal(tokens, d), normal(tokens, d), normal(d, n, scale=0.3), normal(tokens, n), normal(tokens, n),
        normal(d), normal(d), normal(windows, d, n),
    ]  # fmt: skip
    convolution = [normal(tokens, d), normal(d, 4), normal(d)]
    return [
        ("time", lambda *x, backend: time_scan(*x[:5], spans, x[5], backend=backend), time),
        ("selective", lambda *x, backend: selective_scan(*x[:8], spans, x[8], backend=backend), selective),
        ("convolution", lambda *x, backend: causal_convolution(*x, spans, backend=backend), convolution),
    ]


def with_gradients(operation: Callable[..., Outputs], inputs: list[torch.Tensor], backend: Backend) -> list[torch.Tensor]:
    found = operation(*inputs, backend=backend)
    outputs = found if isinstance(found, tuple) else (found,)
    generator = torch.Generator().manual_seed(1)
    loss = sum((output * torch.randn(output.shape, generator=generator).to(output)).sum() for output in outputs)
    assert isinstance(loss, torch.Tensor)
    return [output.detach() for output in outputs] + list(torch.autograd.grad(loss, inputs))


def assert_backend_agrees(
    backend: Backend,
    dtype: torch.dtype,
    tolerance: float,
    lengths: list[int] = LENGTHS,
    *,
    channels: int = 37,
    reference: torch.dtype | None = None,
) -> None:
    """Compare outputs, final states and gradients, relative to the greatest; the reference computes in its own type."""
    for name, operation, inputs in operations(lengths, dtype, seed=0, channels=channels):
        exact = [value.detach().to(reference or dtype).requires_grad_() for value in inputs]
        expected = with_gradients(operation, exact, "reference")
        for i, (ours, wanted) in enumerate(zip(with_gradients(operation, inputs, backend), expected, strict=True)):
            worst = float((ours - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
            assert worst <= tolerance, f"{name}, result {i}: {worst}"


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_cpu_backend_equals_the_reference_with_gradients(lengths: list[int], seed: int) -> None:
    assert_backend_agrees("cpu", torch.float32, 1e-5, lengths)


def test_the_reference_passes_gradcheck() -> None:
    for name, operation, inputs in operations([3, 0, 2], torch.float64, seed=3, longest_interval=20.0):
        few = [
            value.detach()[..., :2].contiguous() if name == "convolution" and i != 1 else value for i, value in enumerate(inputs)
        ]
        if name == "convolution":
            few[1] = inputs[1].detach()[:2]
        if name == "selective":
            few = [v.detach()[:, :2] if i < 3 else v.detach() for i, v in enumerate(inputs)]
            few[3], few[6], few[7], few[8] = few[3][:2], few[6][:2], few[7][:2], few[8][:, :2]
        leaves = tuple(value.detach().clone().requires_grad_() for value in few)
        assert torch.autograd.gradcheck(lambda *x, run=operation: run(*x, backend="reference"), leaves)  # type: ignore[misc]


def test_backends_are_chosen_by_device() -> None:
    assert resolve_backend("auto", torch.device("cpu")) == "cpu"
    assert resolve_backend("auto", torch.device("cuda")) == "cuda"
    assert resolve_backend("reference", torch.device("cpu")) == "reference"


def test_mamba_ssm_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        monkeypatch.context() as absent,
        pytest.raises(TrainingError, match=r"not installed: mamba_ssm, causal_conv1d.*scan: auto"),
    ):
        absent.setitem(sys.modules, "mamba_ssm", None)
        absent.setitem(sys.modules, "causal_conv1d", None)
        resolve_backend("mamba-ssm", torch.device("cuda"))
    mamba_kernels.install(monkeypatch)
    assert resolve_backend("mamba-ssm", torch.device("cuda")) == "mamba-ssm"
    with pytest.raises(TrainingError, match="the model is on cpu"):
        resolve_backend("mamba-ssm", torch.device("cpu"))


def test_mamba_ssms_kernels_get_the_inputs_that_they_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    mamba_kernels.install(monkeypatch)
    torch.manual_seed(0)
    layer, spans = RelationAwareLayer(16, 4, 4, 2), segments([5, 0, 1, 9])
    x = torch.randn(15, 16, requires_grad=True)
    weight = torch.randn(15, 16)
    parameters = [x, *layer.parameters()]
    found = [layer(x, spans, backend=backend)[0] for backend in ("mamba-ssm", "reference")]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)
    grads = [torch.autograd.grad((y * weight).sum(), parameters) for y in found]
    for ours, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5 * max(1.0, float(wanted.abs().max())))


def test_empty_streams_keep_the_state() -> None:
    spans = segments([0, 0])
    start, state = torch.randn(2, 6), torch.randn(2, 4, 3)
    h, final = time_scan(torch.empty(0, 6), torch.empty(0), -torch.ones(3), torch.ones(3), torch.zeros(3), spans, start)
    assert h.shape == (0, 6) and torch.equal(final, start)
    nothing = torch.empty(0, 4)
    y, after = selective_scan(
        nothing,
        nothing,
        nothing,
        torch.zeros(4, 3),
        torch.empty(0, 3),
        torch.empty(0, 3),
        torch.ones(4),
        torch.ones(4),
        spans,
        state,
    )
    assert y.shape == (0, 4) and torch.equal(after, state)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("longest", [50.0, 3e7])
def test_the_time_aware_layer_equals_s5_pytorch_with_its_parameters(backend: Backend, longest: float) -> None:
    torch.manual_seed(0)
    stock = S5(width=12, state_width=6, dt_min=0.001, dt_max=0.1).seq
    layer = TimeAwareLayer(12, 6, 0.001, 0.1)
    layer.load_stock(stock.state_dict())
    lengths = [9, 4, 1]
    spans = segments(lengths)
    x = torch.randn(14, 12, requires_grad=True)
    intervals = torch.rand(14) ** 4 * longest
    intervals[::3] = 0
    ours, last = layer(x, intervals, spans, backend=backend)
    parts = zip(x.split(lengths), intervals.split(lengths), strict=True)
    theirs = torch.cat([stock(part, step_scale=steps) for part, steps in parts])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    weight = torch.randn_like(ours)
    ours_grad, theirs_grad = (torch.autograd.grad((y * weight).sum(), x, retain_graph=True)[0] for y in (ours, theirs))
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-4, atol=1e-4)
    ours_b = torch.autograd.grad((ours * weight).sum(), layer.B)[0]
    torch.testing.assert_close(ours_b, torch.autograd.grad((theirs * weight).sum(), stock.B)[0], rtol=1e-4, atol=1e-3)
    assert last.shape == (3, 12)


def mamba_reference(layer: RelationAwareLayer, x: torch.Tensor) -> torch.Tensor:
    """mamba-ssm's Mamba.forward and selective_scan_ref (2.3.2), transcribed for the CPU: (B, D, L) tensors, float32."""
    length = x.shape[1]
    xz = (layer.in_proj.weight @ x.transpose(1, 2)).contiguous()
    u, z = xz.chunk(2, dim=1)
    u = F.silu(layer.conv1d(u)[..., :length])
    projected = layer.x_proj(u.transpose(1, 2))
    dt, b, c = projected.split([layer.rank, layer.states, layer.states], dim=-1)
    delta = F.softplus((dt @ layer.dt_proj.weight.T).transpose(1, 2) + layer.dt_proj.bias[:, None])
    a = -torch.exp(layer.A_log)
    state, outputs = x.new_zeros(len(x), layer.inner, layer.states), []
    for t in range(length):
        decay = torch.exp(delta[:, :, t, None] * a)
        state = decay * state + delta[:, :, t, None] * b[:, t, None, :] * u[:, :, t, None]
        outputs.append((state @ c[:, t, :, None])[..., 0])
    y = (torch.stack(outputs, dim=2) + u * layer.D[:, None]) * F.silu(z)
    return layer.out_proj(y.transpose(1, 2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_relation_aware_layer_equals_mambas_reference_maths(backend: Backend) -> None:
    torch.manual_seed(0)
    layer = RelationAwareLayer(16, 4, 4, 2)
    x = torch.randn(2, 11, 16, requires_grad=True)
    ours, _ = layer(x.view(22, 16), segments([11, 11]), backend=backend)
    theirs = mamba_reference(layer, x).reshape(22, 16)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    weight = torch.randn_like(ours)
    parameters = [x, *layer.parameters()]
    grads = [torch.autograd.grad((y * weight).sum(), parameters) for y in (ours, theirs)]
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
