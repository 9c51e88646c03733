"""Compiled CPU kernels of the two recurrences and of the convolution (numba).

The state of one window (D x N floats) stays in the first-level cache for the whole window, so no (tokens, D, N) tensor is ever
written. For the backward pass, the state is kept once per CHUNK tokens, and the tokens in between are recomputed. Kernels
release the GIL and run in threads over windows. Every window writes its own output, so results do not depend on the number of
threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from models.compiled import copy_row, copy_rows
from models.compiled import exp_of_negative as _exp
from models.compiled import jit as _jit

__all__ = [
    "complex_scan",
    "complex_scan_backward",
    "convolution",
    "convolution_backward",
    "selective_scan",
    "selective_scan_backward",
]

Array = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.int32]
CHUNK = 16


@_jit
def _complex_forward(a: Array, b: Array, offsets: Offsets, start: Array, h: Array, final: Array, first: int, last: int) -> None:
    states = a.shape[1] // 2
    for window in range(first, last):
        state = final[window]
        copy_row(start[window], state)
        for t in range(offsets[window], offsets[window + 1]):
            for p in range(states):
                ar, ai, re, im = a[t, p], a[t, states + p], state[p], state[states + p]
                state[p] = ar * re - ai * im + b[t, p]
                state[states + p] = ar * im + ai * re + b[t, states + p]
            copy_row(state, h[t])


@_jit
def _complex_backward(
    a: Array,
    offsets: Offsets,
    start: Array,
    h: Array,
    grad: Array,
    grad_a: Array,
    grad_b: Array,
    grad_state: Array,
    first: int,
    last: int,
) -> None:
    states = a.shape[1] // 2
    for window in range(first, last):
        g = grad_state[window]  # on entry: gradient of the final state; on exit: gradient of the first
        begin = offsets[window]
        for t in range(offsets[window + 1] - 1, begin - 1, -1):
            before = h[t - 1] if t > begin else start[window]
            for p in range(states):
                re, im = g[p] + grad[t, p], g[states + p] + grad[t, states + p]
                grad_b[t, p] = re
                grad_b[t, states + p] = im
                hr, hi = before[p], before[states + p]
                grad_a[t, p] = re * hr + im * hi
                grad_a[t, states + p] = im * hr - re * hi
                ar, ai = a[t, p], a[t, states + p]
                g[p] = ar * re + ai * im
                g[states + p] = ar * im - ai * re


@_jit
def _selective_forward(
    u: Array,
    delta: Array,
    a: Array,
    b: Array,
    c: Array,
    offsets: Offsets,
    start: Array,
    y: Array,
    kept: Array,
    final: Array,
    first: int,
    last: int,
) -> None:
    width, states = u.shape[1], a.shape[1]
    for window in range(first, last):
        h = final[window]
        copy_rows(start[window], h)
        begin = offsets[window]
        slot = begin // CHUNK + window
        for t in range(begin, offsets[window + 1]):
            if (t - begin) % CHUNK == 0 and len(kept) > 0:
                copy_rows(h, kept[slot + (t - begin) // CHUNK])
            for d in range(width):
                step = delta[t, d]
                drive = step * u[t, d]
                out = np.float32(0.0)
                for n in range(states):
                    value = _exp(step * a[d, n]) * h[d, n] + drive * b[t, n]
                    h[d, n] = value
                    out += value * c[t, n]
                y[t, d] = out


@_jit
def _selective_backward(
    u: Array,
    delta: Array,
    a: Array,
    b: Array,
    c: Array,
    offsets: Offsets,
    kept: Array,
    grad_y: Array,
    grad_state: Array,
    grad_u: Array,
    grad_delta: Array,
    grad_a: Array,
    grad_b: Array,
    grad_c: Array,
    first: int,
    last: int,
) -> None:
    width, states = u.shape[1], a.shape[1]
    h = np.empty((CHUNK + 1, width, states), np.float32)
    decay = np.empty((CHUNK, width, states), np.float32)
    for window in range(first, last):
        g = grad_state[window]  # on entry: gradient of the final state; on exit: gradient of the first
        begin, length = offsets[window], offsets[window + 1] - offsets[window]
        slot = begin // CHUNK + window
        for chunk in range((length - 1) // CHUNK, -1, -1):
            origin = begin + chunk * CHUNK
            steps = min(CHUNK, length - chunk * CHUNK)
            copy_rows(kept[slot + chunk], h[0])
            for i in range(steps):
                t = origin + i
                for d in range(width):
                    step = delta[t, d]
                    drive = step * u[t, d]
                    for n in range(states):
                        factor = _exp(step * a[d, n])
                        decay[i, d, n] = factor
                        h[i + 1, d, n] = factor * h[i, d, n] + drive * b[t, n]
            for i in range(steps - 1, -1, -1):
                t = origin + i
                for d in range(width):
                    step, signal, dy = delta[t, d], u[t, d], grad_y[t, d]
                    drive = step * signal
                    on_drive = np.float32(0.0)
                    on_step = np.float32(0.0)
                    for n in range(states):
                        gn = g[d, n] + dy * c[t, n]
                        grad_c[t, n] += dy * h[i + 1, d, n]
                        grad_b[t, n] += gn * drive
                        on_drive += gn * b[t, n]
                        gn *= decay[i, d, n]
                        through = gn * h[i, d, n]
                        on_step += through * a[d, n]
                        grad_a[window, d, n] += through * step
                        g[d, n] = gn
                    grad_delta[t, d] = on_step + on_drive * signal
                    grad_u[t, d] = on_drive * step


@_jit
def _convolution_forward(x: Array, taps: Array, bias: Array, offsets: Offsets, y: Array, first: int, last: int) -> None:
    newest, width = taps.shape[0] - 1, x.shape[1]
    for window in range(first, last):
        begin = offsets[window]
        for t in range(begin, offsets[window + 1]):
            for d in range(width):
                y[t, d] = bias[d] + taps[newest, d] * x[t, d]
            for back in range(1, min(newest, t - begin) + 1):
                for d in range(width):
                    y[t, d] += taps[newest - back, d] * x[t - back, d]


@_jit
def _convolution_backward(
    x: Array, taps: Array, offsets: Offsets, grad: Array, grad_x: Array, grad_taps: Array, first: int, last: int
) -> None:
    newest, width = taps.shape[0] - 1, x.shape[1]
    for window in range(first, last):
        begin, end = offsets[window], offsets[window + 1]
        on_taps = grad_taps[window]
        for t in range(begin, end):
            for d in range(width):
                grad_x[t, d] = taps[newest, d] * grad[t, d]
                on_taps[newest, d] += grad[t, d] * x[t, d]
            for back in range(1, min(newest, end - 1 - t) + 1):
                for d in range(width):
                    grad_x[t, d] += taps[newest - back, d] * grad[t + back, d]
                    on_taps[newest - back, d] += grad[t + back, d] * x[t, d]


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="scan")


def _over_windows(kernel: Callable[..., None], offsets: torch.Tensor, *arrays: torch.Tensor) -> None:
    """Run `kernel` in threads, each on a span of windows with about the same number of tokens."""
    views = [array.detach().numpy() for array in arrays]
    bounds = offsets.numpy()
    windows = len(bounds) - 1
    threads = min(torch.get_num_threads(), windows)
    if threads <= 1:
        kernel(*views, 0, windows)
        return
    shares = np.searchsorted(bounds, bounds[-1] * np.arange(1, threads) / threads)
    cuts = [0, *shares.tolist(), windows]
    spans = [(first, last) for first, last in itertools.pairwise(cuts) if first < last]
    for done in [_pool(threads).submit(kernel, *views, *span) for span in spans]:
        done.result()


def complex_scan(
    a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor, start: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute h_t = a_t h_{t-1} + b_t within each window.

    `a`, `b` (T, 2P) are float32, real parts first; `start` is (W, 2P). Returns h (T, 2P) and the final state (W, 2P).
    """
    h, final = torch.empty_like(b), torch.empty_like(start)
    _over_windows(_complex_forward, offsets, a, b, offsets, start, h, final)
    return h, final


def complex_scan_backward(
    a: torch.Tensor, offsets: torch.Tensor, start: torch.Tensor, h: torch.Tensor, grad_h: torch.Tensor, grad_final: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of `complex_scan` with respect to a, b and start."""
    grad_a, grad_b, grad_start = torch.empty_like(a), torch.empty_like(a), grad_final.contiguous().clone()
    _over_windows(_complex_backward, offsets, a, offsets, start, h, grad_h, grad_a, grad_b, grad_start)
    return grad_a, grad_b, grad_start


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    offsets: torch.Tensor,
    start: torch.Tensor,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run Mamba's selective scan within each window (arXiv 2312.00752, section 3).

        h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t
        y_t = C_t h_t

    `u`, `delta` are (T, D), `a` (D, N) <= 0, `b`, `c` (T, N), and `start` (W, D, N), all contiguous float32. Returns y (T, D),
    the states kept for the backward pass (none without `keep`), and the final state (W, D, N).
    """
    y, final = torch.empty_like(u), torch.empty_like(start)
    # A window that starts at token o owns the slots from o // CHUNK + window on; windows never overlap.
    kept = torch.empty(len(u) // CHUNK + len(start) + 1 if keep else 0, *a.shape)
    _over_windows(_selective_forward, offsets, u, delta, a, b, c, offsets, start, y, kept, final)
    return y, kept, final


def selective_scan_backward(
    u: torch.Tensor,
    delta: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    offsets: torch.Tensor,
    kept: torch.Tensor,
    grad_y: torch.Tensor,
    grad_final: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of `selective_scan` with respect to u, delta, a, b, c and start."""
    grad_start = grad_final.contiguous().clone()
    grad_u, grad_delta = torch.empty_like(u), torch.empty_like(u)
    grad_a = torch.zeros(len(offsets) - 1, *a.shape)  # one per window: the order of the sum must not depend on the threads
    grad_b, grad_c = torch.zeros_like(b), torch.zeros_like(c)
    _over_windows(
        _selective_backward, offsets, u, delta, a, b, c, offsets, kept, grad_y, grad_start,
        grad_u, grad_delta, grad_a, grad_b, grad_c,
    )  # fmt: skip
    return grad_u, grad_delta, grad_a.sum(0), grad_b, grad_c, grad_start


def convolution(x: torch.Tensor, taps: torch.Tensor, bias: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Compute y_t = bias + sum_k taps_k x_{t - K + 1 + k} within each window, before which there is nothing.

    `x` (T, D), `taps` (K, D) and `bias` (D,) are contiguous float32. Returns y (T, D).
    """
    y = torch.empty_like(x)
    _over_windows(_convolution_forward, offsets, x, taps, bias, offsets, y)
    return y


def convolution_backward(
    x: torch.Tensor, taps: torch.Tensor, offsets: torch.Tensor, grad_y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of `convolution` with respect to x, taps and bias."""
    grad_x = torch.empty_like(x)
    grad_taps = torch.zeros(len(offsets) - 1, *taps.shape)  # one per window: the order of the sum must not depend on the threads
    _over_windows(_convolution_backward, offsets, x, taps, offsets, grad_y, grad_x, grad_taps)
    return grad_x, grad_taps.sum(0), grad_y.sum(0)
