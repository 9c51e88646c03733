"""The linear recurrence h_t = a_t h_{t-1} + b_t of both state space layers, in three backends.

`linear_scan` is that first-order recurrence. `time_scan` (S5) and `selective_scan` (Mamba) compute its coefficients from the
layer's inputs, so that a backend can compute a_t and b_t where they are used. `reference` follows the equations directly, in
any dtype on any device. `cpu` is compiled by numba. `cuda` uses fused Triton kernels that never write a (tokens, channels,
states) tensor. All backends take an initial state, return the final one, and have the same gradients.

Complex numbers are pairs of reals, real parts first: (T, 2P) is P complex states of T tokens.
"""

from __future__ import annotations

import importlib.util
from typing import Literal

import torch
import torch.nn.functional as F

from configs.errors import TrainingError
from configs.extras import install_command
from models.windows import Segments

__all__ = [
    "Backend",
    "ScanSetting",
    "causal_convolution",
    "complex_product",
    "discretise",
    "linear_scan",
    "resolve_backend",
    "selective_scan",
    "time_scan",
]

Backend = Literal["reference", "cpu", "cuda", "mamba-ssm"]
FORGOTTEN = -30.0  # exponent of a decay below which the state counts as forgotten
ScanSetting = Literal["auto", "reference", "compiled", "mamba-ssm"]


def resolve_backend(wanted: ScanSetting, device: torch.device) -> Backend:
    """Return the backend for tensors on `device`.

    `compiled` and `auto` are numba on the CPU and Triton on CUDA. `mamba-ssm` uses that package's kernels for the
    relation-aware layer and ours for everything else.

    Raises:
        TrainingError: if mamba-ssm's kernels cannot run.
    """
    if wanted == "mamba-ssm":
        missing = [name for name in ("mamba_ssm", "causal_conv1d") if importlib.util.find_spec(name) is None]
        if missing or device.type != "cuda":
            reason = f"not installed: {', '.join(missing)}" if missing else f"the model is on {device.type}"
            raise TrainingError(
                f"The setting scan: mamba-ssm needs a GPU and the packages mamba-ssm and causal-conv1d ({reason}). Set scan: "
                f"auto, which needs neither and computes the same, or install both with `{install_command('gpu')}`."
            )
        return wanted
    if wanted == "reference":
        return wanted
    return "cuda" if device.type == "cuda" else "cpu"


def linear_scan(a: torch.Tensor, b: torch.Tensor, segments: Segments, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute h_t = a_t h_{t-1} + b_t within each window, real or complex: the readable reference.

    `a`, `b` are (T, ...) and `start` is (W, ...). Returns h (T, ...) and the final state (W, ...).
    """
    decay, drive = segments.pad(a), segments.pad(b)
    lengths = torch.diff(segments.offsets)
    alive = torch.arange(decay.shape[1], device=a.device) < lengths[:, None]  # (W, L)
    state, states = start, []
    for t in range(decay.shape[1]):
        here = alive[:, t].reshape(-1, *[1] * (b.dim() - 1))
        state = torch.where(here, decay[:, t] * state + drive[:, t], state)
        states.append(state)
    if not states:
        return b, start
    return segments.unpad(torch.stack(states, dim=1)), state


def time_scan(
    drive: torch.Tensor,
    intervals: torch.Tensor,
    rate_re: torch.Tensor,
    rate_im: torch.Tensor,
    log_step: torch.Tensor,
    segments: Segments,
    start: torch.Tensor | None = None,
    *,
    backend: Backend = "reference",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute S5's states with the step scaled by each token's interval.

    This is equation 6 of arXiv 2208.04933 with zero-order hold, where Lambda = rate_re + i rate_im:

        z_t = Lambda exp(log_step) interval_t
        x_t = exp(z_t) x_{t-1} + (exp(z_t) - 1) / Lambda drive_t

    `drive` (T, 2P) is B u, `intervals` (T,) are seconds >= 0, the other parameters are (P,) with rate_re < 0, and `start` is
    (W, 2P) or None for zero. Returns x (T, 2P) and the final state (W, 2P).
    """
    if backend == "cuda" and len(drive):
        from models.ss4rec.kernels import scan_cuda

        return scan_cuda.time_scan(drive, intervals, rate_re, rate_im, log_step, segments, start)
    if start is None:
        start = intervals.new_zeros(len(segments), drive.shape[1])
    if len(drive) == 0:
        return drive, start
    decay, hold = discretise(intervals, rate_re, rate_im, log_step)
    b = complex_product(hold, drive)
    if backend == "reference":
        h, final = linear_scan(_as_complex(decay), _as_complex(b), segments, _as_complex(start))
        return _as_pairs(h), _as_pairs(final)
    from models.ss4rec.kernels import scan_cpu

    return scan_cpu.complex_scan(decay, b, segments.offsets, start)


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    gate: torch.Tensor,
    a_log: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    skip: torch.Tensor,
    delta_bias: torch.Tensor,
    segments: Segments,
    start: torch.Tensor | None = None,
    *,
    backend: Backend = "reference",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute Mamba's recurrence with its softplus, skip connection and gate.

    See arXiv 2312.00752, algorithm 2 and section 3.4. With A = -exp(a_log):

        step_t = softplus(delta_t + delta_bias)
        h_t = exp(step_t A) h_{t-1} + step_t u_t B_t
        y_t = (C_t h_t + skip u_t) silu(gate_t)

    `u`, `delta`, `gate` are (T, D), `a_log` is (D, N), `b`, `c` are (T, N), `skip`, `delta_bias` are (D,), and `start` is (W,
    D, N) or None for zero. Returns y (T, D) and the final state (W, D, N).
    """
    if backend == "cuda" and len(u):
        from models.ss4rec.kernels import scan_cuda

        return scan_cuda.selective_scan(u, delta, gate, a_log, b, c, skip, delta_bias, segments, start)
    if start is None:
        start = a_log.new_zeros(len(segments), *a_log.shape)
    if len(u) == 0:
        return u, start
    step, rate = F.softplus(delta + delta_bias), -a_log.exp()
    if backend == "reference":
        decay = torch.exp(step[..., None] * rate)
        h, final = linear_scan(decay, (step * u)[..., None] * b[:, None, :], segments, start)
        y = (h * c[:, None, :]).sum(-1)
    else:
        from models.ss4rec.kernels import scan_cpu

        y, final = scan_cpu.selective_scan(u, step, rate, b, c, segments.offsets, start)
    return (y + skip * u) * F.silu(gate), final


def causal_convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    segments: Segments,
    start: torch.Tensor | None = None,
    *,
    backend: Backend = "reference",
) -> torch.Tensor:
    """Apply a depthwise convolution over each window's past, followed by silu.

        y_t = silu(bias + sum_k weight_k x_{t - K + 1 + k})

    `x` is (T, D), `weight` (D, K) and `bias` (D,). `start` (W, K - 1, D) has the inputs before each window, or is None for
    zeros.
    """
    if backend == "cuda" and start is None and len(x):
        from models.ss4rec.kernels import scan_cuda

        return scan_cuda.causal_convolution(x, weight, bias, segments)
    if backend == "cpu" and start is None and len(x):
        from models.ss4rec.kernels import scan_cpu

        return F.silu(scan_cpu.convolution(x, weight, bias, segments.offsets))
    taps = weight.shape[1]
    out = bias + x * weight[:, -1]
    positions = segments.positions
    for back in range(1, taps):
        shifted = F.pad(x, (0, 0, back, 0))[: len(x)] * (positions >= back)[:, None]
        if start is not None:
            before = start[segments.windows, (positions - back + taps - 1).clamp_max(taps - 2)]
            shifted = torch.where((positions < back)[:, None], before, shifted)
        out = out + shifted * weight[:, -1 - back]
    return F.silu(out)


def discretise(
    intervals: torch.Tensor, rate_re: torch.Tensor, rate_im: torch.Tensor, log_step: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return exp(z) and (exp(z) - 1) / Lambda, (T, 2P) each, without cancellation at small z."""
    step = intervals[:, None] * log_step.exp()
    x = rate_re * step
    # The angle of a forgotten state does not matter, but rounding errors in its gradient would grow with the interval.
    half_angle = torch.where(x > FORGOTTEN, rate_im * step / 2, 0.0)
    # exp(z) - 1: Re = expm1(x) cos(w) - 2 sin(w / 2)^2, Im = exp(x) sin(w).
    growth, half_sin, half_cos = torch.expm1(x), torch.sin(half_angle), torch.cos(half_angle)
    change_re = growth * (1 - 2 * half_sin * half_sin) - 2 * half_sin * half_sin
    change_im = (growth + 1) * 2 * half_sin * half_cos
    norm = rate_re * rate_re + rate_im * rate_im
    hold_re = (change_re * rate_re + change_im * rate_im) / norm
    hold_im = (change_im * rate_re - change_re * rate_im) / norm
    return torch.cat([change_re + 1, change_im], dim=1), torch.cat([hold_re, hold_im], dim=1)


def complex_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the products of complex numbers that are stored as pairs (T, 2P)."""
    a_re, a_im = a.chunk(2, dim=1)
    b_re, b_im = b.chunk(2, dim=1)
    return torch.cat([a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re], dim=1)


def _as_complex(pairs: torch.Tensor) -> torch.Tensor:
    return torch.complex(*pairs.chunk(2, dim=1))


def _as_pairs(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values.real, values.imag], dim=1)
