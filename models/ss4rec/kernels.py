"""Compiled CPU kernels of the two recurrences (numba).

The state of one batch row (D x N floats) stays in the first-level cache for the whole sequence, so no (B, L, D, N)
tensor is ever written: the backward pass keeps the state once per CHUNK steps and recomputes the steps between.
Kernels release the GIL and are run by threads over batch rows; every row writes its own output, so results do not
depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

__all__ = ["complex_scan", "complex_scan_backward", "selective_scan", "selective_scan_backward"]

Array = npt.NDArray[np.float32]
CHUNK = 16
_jit: Callable[..., Any] = numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, cache=True)

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693145751953125)
_LN2_LOW = np.float32(1.428606765330187e-06)


@_jit
def _exp(x: Any) -> Any:
    """exp for x <= 0 without a library call, so that LLVM vectorises the loop round it (relative error < 2e-7)."""
    x = max(x, np.float32(-87.0))
    k = np.int32(x * _LOG2_E - np.float32(0.5))
    r = (x - np.float32(k) * _LN2_HIGH) - np.float32(k) * _LN2_LOW
    p = np.float32(1.0 / 5040.0)
    p = p * r + np.float32(1.0 / 720.0)
    p = p * r + np.float32(1.0 / 120.0)
    p = p * r + np.float32(1.0 / 24.0)
    p = p * r + np.float32(1.0 / 6.0)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    return p * np.int32((k + np.int32(127)) << np.int32(23)).view(np.float32)


@_jit
def _complex_forward(a: Array, b: Array, start: Array, h: Array, first: int, last: int) -> None:
    length, states = a.shape[1], a.shape[2]
    for row in range(first, last):
        for p in range(states):
            re, im = start[row, p, 0], start[row, p, 1]
            for t in range(length):
                ar, ai = a[row, t, p, 0], a[row, t, p, 1]
                re, im = ar * re - ai * im + b[row, t, p, 0], ar * im + ai * re + b[row, t, p, 1]
                h[row, t, p, 0] = re
                h[row, t, p, 1] = im


@_jit
def _complex_backward(
    a: Array, start: Array, h: Array, grad: Array, grad_a: Array, grad_b: Array, grad_start: Array, first: int, last: int
) -> None:
    length, states = a.shape[1], a.shape[2]
    for row in range(first, last):
        for p in range(states):
            re, im = np.float32(0.0), np.float32(0.0)
            for t in range(length - 1, -1, -1):
                re += grad[row, t, p, 0]
                im += grad[row, t, p, 1]
                grad_b[row, t, p, 0] = re
                grad_b[row, t, p, 1] = im
                if t > 0:
                    hr, hi = h[row, t - 1, p, 0], h[row, t - 1, p, 1]
                else:
                    hr, hi = start[row, p, 0], start[row, p, 1]
                grad_a[row, t, p, 0] = re * hr + im * hi
                grad_a[row, t, p, 1] = im * hr - re * hi
                ar, ai = a[row, t, p, 0], a[row, t, p, 1]
                re, im = ar * re + ai * im, ar * im - ai * re
            grad_start[row, p, 0] = re
            grad_start[row, p, 1] = im


@_jit
def _selective_forward(
    u: Array,
    delta: Array,
    a: Array,
    b: Array,
    c: Array,
    start: Array,
    y: Array,
    kept: Array,
    state: Array,
    first: int,
    last: int,
) -> None:
    length, width, states = u.shape[1], u.shape[2], a.shape[1]
    for row in range(first, last):
        h = state[row]
        h[:, :] = start[row]
        for t in range(length):
            if t % CHUNK == 0:
                kept[row, t // CHUNK] = h
            for d in range(width):
                step = delta[row, t, d]
                drive = step * u[row, t, d]
                out = np.float32(0.0)
                for n in range(states):
                    value = _exp(step * a[d, n]) * h[d, n] + drive * b[row, t, n]
                    h[d, n] = value
                    out += value * c[row, t, n]
                y[row, t, d] = out


@_jit
def _selective_backward(
    u: Array,
    delta: Array,
    a: Array,
    b: Array,
    c: Array,
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
    length, width, states = u.shape[1], u.shape[2], a.shape[1]
    h = np.empty((CHUNK + 1, width, states), np.float32)
    decay = np.empty((CHUNK, width, states), np.float32)
    for row in range(first, last):
        g = grad_state[row]  # in: gradient of the final state; out: gradient of the first
        for chunk in range((length - 1) // CHUNK, -1, -1):
            begin = chunk * CHUNK
            steps = min(CHUNK, length - begin)
            h[0] = kept[row, chunk]
            for i in range(steps):
                t = begin + i
                for d in range(width):
                    step = delta[row, t, d]
                    drive = step * u[row, t, d]
                    for n in range(states):
                        factor = _exp(step * a[d, n])
                        decay[i, d, n] = factor
                        h[i + 1, d, n] = factor * h[i, d, n] + drive * b[row, t, n]
            for i in range(steps - 1, -1, -1):
                t = begin + i
                for d in range(width):
                    step, signal, dy = delta[row, t, d], u[row, t, d], grad_y[row, t, d]
                    drive = step * signal
                    on_drive = np.float32(0.0)
                    on_step = np.float32(0.0)
                    for n in range(states):
                        gn = g[d, n] + dy * c[row, t, n]
                        grad_c[row, t, n] += dy * h[i + 1, d, n]
                        grad_b[row, t, n] += gn * drive
                        on_drive += gn * b[row, t, n]
                        gn *= decay[i, d, n]
                        through = gn * h[i, d, n]
                        on_step += through * a[d, n]
                        grad_a[row, d, n] += through * step
                        g[d, n] = gn
                    grad_delta[row, t, d] = on_step + on_drive * signal
                    grad_u[row, t, d] = on_drive * step


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="scan")


def _over_rows(kernel: Callable[..., None], rows: int, *arrays: torch.Tensor) -> None:
    views = [array.detach().numpy() for array in arrays]
    threads = min(torch.get_num_threads(), rows)
    if threads <= 1:
        kernel(*views, 0, rows)
        return
    share = math.ceil(rows / threads)
    spans = [(first, min(first + share, rows)) for first in range(0, rows, share)]
    for done in [_pool(threads).submit(kernel, *views, *span) for span in spans]:
        done.result()


def complex_scan(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """h_t = a_t h_{t-1} + b_t. `a`, `b` (B, L, P, 2) float32 as real and imaginary parts, `start` (B, P, 2)."""
    h = torch.empty_like(b)
    _over_rows(_complex_forward, len(a), a, b, start, h)
    return h


def complex_scan_backward(
    a: torch.Tensor, start: torch.Tensor, h: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `complex_scan` to a, b and start."""
    grad_a, grad_b, grad_start = torch.empty_like(a), torch.empty_like(a), torch.empty_like(start)
    _over_rows(_complex_backward, len(a), a, start, h, grad, grad_a, grad_b, grad_start)
    return grad_a, grad_b, grad_start


def selective_scan(
    u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, start: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t, y_t = C_t h_t (Mamba, arXiv 2312.00752, section 3).

    `u`, `delta` (B, L, D); `a` (D, N) <= 0; `b`, `c` (B, L, N); `start` (B, D, N), all contiguous float32.
    Returns y (B, L, D), the states kept for the backward pass, and the final state (B, D, N).
    """
    rows, length, width = u.shape
    states = a.shape[1]
    y = torch.empty_like(u)
    kept = torch.empty(rows, -(-length // CHUNK), width, states)
    state = torch.empty(rows, width, states)
    _over_rows(_selective_forward, rows, u, delta, a, b, c, start, y, kept, state)
    return y, kept, state


def selective_scan_backward(
    u: torch.Tensor,
    delta: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    kept: torch.Tensor,
    grad_y: torch.Tensor,
    grad_state: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Gradients of `selective_scan` to u, delta, a, b, c and start."""
    rows = len(u)
    grad_start = grad_state.contiguous().clone()
    grad_u, grad_delta = torch.empty_like(u), torch.empty_like(u)
    grad_a = torch.zeros(rows, *a.shape)  # one a row: the sum's order must not hang on the threads
    grad_b, grad_c = torch.zeros_like(b), torch.zeros_like(c)
    _over_rows(_selective_backward, rows, u, delta, a, b, c, kept, grad_y, grad_start, grad_u, grad_delta, grad_a, grad_b, grad_c)
    return grad_u, grad_delta, grad_a.sum(0), grad_b, grad_c, grad_start
