"""The recurrent form on the CPU (numba), without torch: process one event after another from a user's state.

Inference only. The equations are those of `scan` (time-aware: `time_scan`; relation-aware: `causal_convolution` and
`selective_scan`), fused for each event, so that a step of the default network takes some ten microseconds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compiled import exp_of_negative, jit, softplus

__all__ = ["Floats", "Weights", "advance", "products"]

Floats = npt.NDArray[np.float32]
FORGOTTEN = np.float32(-30.0)  # as in `scan`
NORM_EPSILON = 1e-12


class Weights(NamedTuple):
    """Weights of K blocks.

    The network has width H, P complex time-aware states, inner width D, rank R, N states per channel and T taps. A layer that
    the network does not have has no states: P = 0 or D = 0.
    """

    items: Floats  # (n_items + 1, H); row 0 is not an item
    intervals: Floats  # (buckets, H); (0, H) if intervals are not embedded
    hours: Floats  # (168, H) of the hours of the week; (0, H) if the calendar is not read
    final_scale: Floats  # (H,) of the norm after the last block; (0,) if each layer is normalised after it was added
    final_shift: Floats  # (H,) or (0,)
    drive: Floats  # (K, 2P, H) B, real parts first
    rate_re: Floats  # (K, P)
    rate_im: Floats  # (K, P)
    step: Floats  # (K, P) exp(log_step)
    read: Floats  # (K, H, 2P) C, imaginary parts negated
    skip: Floats  # (K, H)
    norm_scale: Floats  # (K, H)
    norm_shift: Floats  # (K, H)
    in_proj: Floats  # (K, 2D, H)
    taps: Floats  # (K, D, T)
    tap_bias: Floats  # (K, D)
    x_proj: Floats  # (K, R + 2N, D)
    dt_proj: Floats  # (K, D, R)
    dt_bias: Floats  # (K, D)
    rate: Floats  # (K, D, N) -exp(A_log)
    inner_skip: Floats  # (K, D)
    out_proj: Floats  # (K, H, D)
    relation_scale: Floats  # (K, H)
    relation_shift: Floats  # (K, H)


@jit
def _product(matrix: Any, x: Any, out: Any) -> None:
    for i in range(matrix.shape[0]):
        total = np.float32(0.0)
        for j in range(matrix.shape[1]):
            total += matrix[i, j] * x[j]
        out[i] = total


@jit
def _silu(x: Any) -> Any:
    e = exp_of_negative(-abs(x))
    return x * (np.float32(1.0) if x >= 0 else e) / (np.float32(1.0) + e)


@jit
def _add_and_normalise(x: Any, y: Any, scale: Any, shift: Any) -> None:
    """Compute x = LayerNorm(x + y) in place."""
    width = x.shape[0]
    mean = np.float32(0.0)
    for i in range(width):
        x[i] += y[i]
        mean += x[i]
    mean /= np.float32(width)
    variance = np.float32(0.0)
    for i in range(width):
        x[i] -= mean
        variance += x[i] * x[i]
    inverse = np.float32(1.0 / math.sqrt(variance / np.float32(width) + NORM_EPSILON))
    for i in range(width):
        x[i] = x[i] * inverse * scale[i] + shift[i]


@jit
def _normalise(x: Any, scale: Any, shift: Any, out: Any) -> None:
    """Compute out = LayerNorm(x)."""
    width = x.shape[0]
    mean = np.float32(0.0)
    for i in range(width):
        mean += x[i]
    mean /= np.float32(width)
    variance = np.float32(0.0)
    for i in range(width):
        variance += (x[i] - mean) * (x[i] - mean)
    inverse = np.float32(1.0 / math.sqrt(variance / np.float32(width) + NORM_EPSILON))
    for i in range(width):
        out[i] = (x[i] - mean) * inverse * scale[i] + shift[i]


@jit
def _read(pre: Any, x: Any, scale: Any, shift: Any, z: Any) -> None:
    """Write what a layer reads of the residual stream x to z."""
    if pre:
        _normalise(x, scale, shift, z)
    else:
        z[:] = x


@jit
def _add(pre: Any, x: Any, y: Any, scale: Any, shift: Any) -> None:
    """Add a layer's output y to the residual stream x."""
    if pre:
        for i in range(x.shape[0]):
            x[i] += y[i]
    else:
        _add_and_normalise(x, y, scale, shift)


@jit
def _time_aware(w: Any, k: int, x: Any, interval: Any, state: Any, drive: Any, y: Any) -> None:
    """Advance `state` (2P,) by one event and write y (H,)."""
    states = w.rate_re.shape[1]
    _product(w.drive[k], x, drive)
    for p in range(states):
        step = interval * w.step[k, p]
        decay = w.rate_re[k, p] * step
        half = w.rate_im[k, p] * step / np.float32(2.0) if decay > FORGOTTEN else np.float32(0.0)
        growth, half_sin, half_cos = np.float32(math.expm1(decay)), np.float32(math.sin(half)), np.float32(math.cos(half))
        sin_squared = np.float32(2.0) * half_sin * half_sin
        change_re = growth * (np.float32(1.0) - sin_squared) - sin_squared
        change_im = (growth + np.float32(1.0)) * np.float32(2.0) * half_sin * half_cos
        norm = w.rate_re[k, p] * w.rate_re[k, p] + w.rate_im[k, p] * w.rate_im[k, p]
        hold_re = (change_re * w.rate_re[k, p] + change_im * w.rate_im[k, p]) / norm
        hold_im = (change_im * w.rate_re[k, p] - change_re * w.rate_im[k, p]) / norm
        keep_re, keep_im, re, im = change_re + np.float32(1.0), change_im, state[p], state[states + p]
        u_re, u_im = drive[p], drive[states + p]
        state[p] = keep_re * re - keep_im * im + hold_re * u_re - hold_im * u_im
        state[states + p] = keep_re * im + keep_im * re + hold_re * u_im + hold_im * u_re
    _product(w.read[k], state, y)
    for i in range(x.shape[0]):
        y[i] += w.skip[k, i] * x[i]


@jit
def _relation_aware(
    w: Any, k: int, x: Any, inputs: Any, state: Any, projected: Any, u: Any, coefficients: Any, inner: Any, y: Any
) -> None:
    """Advance the layer by one event and write y (H,).

    `inputs` ((T - 1) D,), the convolution's last inputs, and `state` (D N,) are updated in place.
    """
    channels, taps, states, rank = w.taps.shape[1], w.taps.shape[2], w.rate.shape[2], w.dt_proj.shape[2]
    _product(w.in_proj[k], x, projected)
    for d in range(channels):
        total = w.tap_bias[k, d] + w.taps[k, d, taps - 1] * projected[d]
        for back in range(taps - 1):
            total += w.taps[k, d, back] * inputs[back * channels + d]
        u[d] = total
    for back in range(taps - 2):
        for d in range(channels):
            inputs[back * channels + d] = inputs[(back + 1) * channels + d]
    if taps > 1:
        for d in range(channels):
            inputs[(taps - 2) * channels + d] = projected[d]
    for d in range(channels):
        u[d] = _silu(u[d])
    _product(w.x_proj[k], u, coefficients)
    _product(w.dt_proj[k], coefficients[:rank], inner)
    b, c = coefficients[rank : rank + states], coefficients[rank + states :]
    for d in range(channels):
        inner[d] = softplus(inner[d] + w.dt_bias[k, d])
    for d in range(channels):
        step = inner[d]
        drive = step * u[d]
        out = np.float32(0.0)
        for n in range(states):
            value = exp_of_negative(step * w.rate[k, d, n]) * state[d * states + n] + drive * b[n]
            state[d * states + n] = value
            out += value * c[n]
        inner[d] = out + w.inner_skip[k, d] * u[d]
    for d in range(channels):
        inner[d] *= _silu(projected[channels + d])
    _product(w.out_proj[k], inner, y)


@jit
def advance(
    w: Any, state: Any, items: Any, intervals: Any, buckets: Any, hours: Any, offsets: Any, who: Any, hidden: Any
) -> None:
    """Process the events offsets[b]:offsets[b + 1] of each user b, and update `state[b]` in place.

    `state` is (B, numbers); `items` (E,) are 1..n_items; `intervals` (E,) are scaled and run from each event to the next event
    or the request; `buckets` (E,) are their places in `w.intervals`, or (0,) if it is empty; `hours` (E,) are the hours of the week at the end
    of each interval, or (0,) likewise; `who` (B, H) is added to each event's embedding. `hidden` (B, H) receives the output after the last event; it is unchanged for users without events.
    """
    blocks, width = w.skip.shape[0], w.items.shape[1]
    pre, embeds, reads_hours = w.final_scale.shape[0] > 0, w.intervals.shape[0] > 0, w.hours.shape[0] > 0
    time_numbers, channels = w.drive.shape[1], w.taps.shape[1]
    input_numbers, relation_numbers = (w.taps.shape[2] - 1) * channels, channels * w.rate.shape[2]
    x, y, z = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    drive, projected = np.empty(time_numbers, np.float32), np.empty(2 * channels, np.float32)
    u, inner = np.empty(channels, np.float32), np.empty(channels, np.float32)
    coefficients = np.empty(w.x_proj.shape[1], np.float32)
    for row in range(state.shape[0]):
        for t in range(offsets[row], offsets[row + 1]):
            for i in range(width):
                x[i] = w.items[items[t], i] + who[row, i]
            if embeds:
                for i in range(width):
                    x[i] += w.intervals[buckets[t], i]
            if reads_hours:
                for i in range(width):
                    x[i] += w.hours[hours[t], i]
            place = 0
            for k in range(blocks):
                if time_numbers > 0:
                    _read(pre, x, w.norm_scale[k], w.norm_shift[k], z)
                    _time_aware(w, k, z, intervals[t], state[row, place : place + time_numbers], drive, y)
                    _add(pre, x, y, w.norm_scale[k], w.norm_shift[k])
                    place += time_numbers
                if channels > 0:
                    inputs = state[row, place : place + input_numbers]
                    place += input_numbers
                    memory = state[row, place : place + relation_numbers]
                    place += relation_numbers
                    _read(pre, x, w.relation_scale[k], w.relation_shift[k], z)
                    _relation_aware(w, k, z, inputs, memory, projected, u, coefficients, inner, y)
                    _add(pre, x, y, w.relation_scale[k], w.relation_shift[k])
        if offsets[row + 1] > offsets[row]:
            if pre:
                _normalise(x, w.final_scale, w.final_shift, z)
                hidden[row] = z
            else:
                hidden[row] = x


@jit
def _products_of_one(vectors: Any, h: Any, out: Any) -> None:
    for i in range(vectors.shape[0]):
        x, p = vectors[i], np.float32(0.0)
        for j in range(vectors.shape[1]):
            p += x[j] * h[j]
        out[i] = p


@jit
def _products_of_two(vectors: Any, h: Any, out: Any) -> None:
    a, b, out_a, out_b = h[0], h[1], out[0], out[1]
    for i in range(vectors.shape[0]):
        x, p, q = vectors[i], np.float32(0.0), np.float32(0.0)
        for j in range(vectors.shape[1]):
            p += x[j] * a[j]
            q += x[j] * b[j]
        out_a[i], out_b[i] = p, q


@jit
def _products_of_three(vectors: Any, h: Any, out: Any) -> None:
    a, b, c = h[0], h[1], h[2]
    out_a, out_b, out_c = out[0], out[1], out[2]
    for i in range(vectors.shape[0]):
        x, p, q, r = vectors[i], np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for j in range(vectors.shape[1]):
            p += x[j] * a[j]
            q += x[j] * b[j]
            r += x[j] * c[j]
        out_a[i], out_b[i], out_c[i] = p, q, r


@jit
def _products_of_four(vectors: Any, h: Any, out: Any) -> None:
    a, b, c, d = h[0], h[1], h[2], h[3]
    out_a, out_b, out_c, out_d = out[0], out[1], out[2], out[3]
    for i in range(vectors.shape[0]):
        x, p, q, r, s = vectors[i], np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for j in range(vectors.shape[1]):
            p += x[j] * a[j]
            q += x[j] * b[j]
            r += x[j] * c[j]
            s += x[j] * d[j]
        out_a[i], out_b[i], out_c[i], out_d[i] = p, q, r, s


@jit
def products(vectors: Any, hidden: Any, out: Any) -> None:
    """Write the inner products of each row of `hidden` (B, H) with each of `vectors` (n, H) to `out` (B, n).

    Each vector is read once for up to four rows. A BLAS takes 1.5 times as long for the few rows of a batch of requests,
    because it first copies all vectors, or reads them for each row.
    """
    rows, first = hidden.shape[0], 0
    while rows - first == 4 or rows - first > 5:
        _products_of_four(vectors, hidden[first : first + 4], out[first : first + 4])
        first += 4
    if rows - first in (3, 5):
        _products_of_three(vectors, hidden[first : first + 3], out[first : first + 3])
        first += 3
    if rows - first == 2:
        _products_of_two(vectors, hidden[first : first + 2], out[first : first + 2])
    elif rows - first == 1:
        _products_of_one(vectors, hidden[first], out[first])
