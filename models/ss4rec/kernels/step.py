"""The recurrent form on the CPU (numba), without torch: read events from a user's state on.

Inference only. The equations are those of `scan` (time-aware: `time_scan`; relation-aware: `causal_convolution` and
`selective_scan`). The events of all users are read in chunks of a few rows. Each layer multiplies all rows of a chunk with its
weights at once, and then runs its recurrence over them one by one. A row gives the same numbers to the last bit, whatever rows are
in its chunk, so a state is the same whether events came alone or together.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compiled import copy_row, exp2_of_negative, exp_of_negative, expm1_of_negative, jit, sine_and_cosine, softplus
from models.ss4rec.kernels.matrices import PANEL, dense

__all__ = ["Floats", "Weights", "advance"]

Floats = npt.NDArray[np.float32]
CHUNK = 16  # rows whose intermediate results stay in the first-level cache
FORGOTTEN = np.float32(-30.0)  # as in `scan`
NORM_EPSILON = 1e-12


class Weights(NamedTuple):
    """Weights of K blocks.

    The network has width H, P complex time-aware states, inner width D, rank R, N states per channel and T taps. A layer that
    the network does not have has no states: P = 0 or D = 0. Matrices lie in panels, as `matrices.packed` makes them.
    """

    items: Floats  # (n_items + 1, H); row 0 is not an item
    intervals: Floats  # (buckets, H); (0, H) if intervals are not embedded
    hours: Floats  # (168, H) of the hours of the week; (0, H) if the calendar is not read
    final_scale: Floats  # (H,) of the norm after the last block; (0,) if each layer is normalised after it was added
    final_shift: Floats  # (H,) or (0,)
    drive: Floats  # K matrices (2P, H): B, real parts first
    rate_re: Floats  # (K, P)
    rate_im: Floats  # (K, P)
    step: Floats  # (K, P) exp(log_step)
    read: Floats  # K matrices (H, 2P): C, imaginary parts negated
    skip: Floats  # (K, H)
    norm_scale: Floats  # (K, H)
    norm_shift: Floats  # (K, H)
    in_proj: Floats  # K matrices (D, H)
    gate: Floats  # K matrices (D, H)
    taps: Floats  # (K, T, D)
    tap_bias: Floats  # (K, D)
    x_proj: Floats  # K matrices (R + 2N, D)
    dt_proj: Floats  # K matrices (D, R)
    dt_bias: Floats  # (K, D)
    rate: Floats  # (K, D, N) -exp(A_log) / log(2), for powers of 2
    inner_skip: Floats  # (K, D)
    out_proj: Floats  # K matrices (H, D)
    relation_scale: Floats  # (K, H)
    relation_shift: Floats  # (K, H)


@jit
def _silu(x: Any) -> Any:
    e = exp_of_negative(-abs(x))
    return x * (np.float32(1.0) if x >= 0 else e) / (np.float32(1.0) + e)


@jit
def _normalise(x: Any, scale: Any, shift: Any, out: Any) -> None:
    """Compute out = LayerNorm(x). Both may be the same array."""
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
def _read(pre: Any, x: Any, rows: Any, scale: Any, shift: Any, z: Any) -> None:
    """Write what a layer reads of the residual stream x to z."""
    for r in range(rows):
        if pre:
            _normalise(x[r], scale, shift, z[r])
        else:
            copy_row(x[r], z[r])


@jit
def _add(pre: Any, x: Any, rows: Any, y: Any, scale: Any, shift: Any) -> None:
    """Add a layer's output y to the residual stream x."""
    for r in range(rows):
        for i in range(x.shape[1]):
            x[r, i] += y[r, i]
        if not pre:
            _normalise(x[r], scale, shift, x[r])


@jit
def _discretise(w: Any, k: int, interval: Any, keep_re: Any, keep_im: Any, hold_re: Any, hold_im: Any) -> None:
    """Write by how much each state (P,) is kept over an interval, and what it takes of its drive."""
    for p in range(keep_re.shape[0]):
        re, im = w.rate_re[k, p], w.rate_im[k, p]
        step = interval * w.step[k, p]
        decay = re * step
        half = im * step / np.float32(2.0) if decay > FORGOTTEN else np.float32(0.0)
        growth = expm1_of_negative(decay)
        half_sin, half_cos = sine_and_cosine(half)
        sin_squared = np.float32(2.0) * half_sin * half_sin
        change_re = growth * (np.float32(1.0) - sin_squared) - sin_squared
        change_im = (growth + np.float32(1.0)) * np.float32(2.0) * half_sin * half_cos
        norm = re * re + im * im
        keep_re[p], keep_im[p] = change_re + np.float32(1.0), change_im
        hold_re[p] = (change_re * re + change_im * im) / norm
        hold_im[p] = (change_im * re - change_re * im) / norm


@jit
def _time_aware(w: Any, k: int, rows: Any, intervals: Any, state: Any, place: int, owner: Any, drive: Any, factors: Any) -> None:
    """Advance the states of the rows' users, and replace each row of `drive` by the state after it."""
    states = w.rate_re.shape[1]
    keep_re, keep_im, hold_re, hold_im = factors[0], factors[1], factors[2], factors[3]
    for r in range(rows):
        _discretise(w, k, intervals[r], keep_re, keep_im, hold_re, hold_im)
        row, own = drive[r], state[owner[r], place : place + 2 * states]
        for p in range(states):
            re, im, u_re, u_im = own[p], own[states + p], row[p], row[states + p]
            own[p] = keep_re[p] * re - keep_im[p] * im + hold_re[p] * u_re - hold_im[p] * u_im
            own[states + p] = keep_re[p] * im + keep_im[p] * re + hold_re[p] * u_im + hold_im[p] * u_re
        for p in range(2 * states):
            row[p] = own[p]


@jit
def _convolve(w: Any, k: int, rows: Any, state: Any, place: int, owner: Any, u: Any, sums: Any) -> None:
    """Replace each row of `u` by its convolution with the inputs before it, which `state` keeps, and activate it."""
    taps, channels = w.taps.shape[1], w.taps.shape[2]
    for r in range(rows):
        inputs, row = state[owner[r], place : place + (taps - 1) * channels], u[r]
        for d in range(channels):
            sums[d] = w.tap_bias[k, d] + w.taps[k, taps - 1, d] * row[d]
        for back in range(taps - 1):
            for d in range(channels):
                sums[d] += w.taps[k, back, d] * inputs[back * channels + d]
        for back in range(taps - 2):
            for d in range(channels):
                inputs[back * channels + d] = inputs[(back + 1) * channels + d]
        if taps > 1:
            for d in range(channels):
                inputs[(taps - 2) * channels + d] = row[d]
        for d in range(channels):
            row[d] = _silu(sums[d])


def _selecting(constant: int | None) -> Any:
    """Compile the selective recurrence for a number of states a channel, or for any number.

    With a known number, the compiler keeps the states in vectors, which takes a quarter of the time.
    """

    @jit
    def select(w: Any, k: int, rows: Any, state: Any, place: int, owner: Any, u: Any, coefficients: Any, inner: Any) -> None:
        channels, rank = w.rate.shape[1], w.dt_proj.shape[2]
        states = w.rate.shape[2] if constant is None else constant
        for r in range(rows):
            row, inputs = inner[r], u[r]
            memory = state[owner[r], place : place + channels * states]
            b, c = coefficients[r, rank : rank + states], coefficients[r, rank + states : rank + 2 * states]
            for d in range(channels):
                row[d] = softplus(row[d] + w.dt_bias[k, d])
            for d in range(channels):
                step, own, rate = row[d], memory[d * states : (d + 1) * states], w.rate[k, d]
                drive = step * inputs[d]
                out = np.float32(0.0)
                for n in range(states):
                    value = exp2_of_negative(step * rate[n]) * own[n] + drive * b[n]
                    own[n] = value
                    out += value * c[n]
                row[d] = out + w.inner_skip[k, d] * inputs[d]

    return select


COMMON = 16  # states a channel, the default
_select_common, _select_any = _selecting(COMMON), _selecting(None)


@jit
def _select(w: Any, k: int, rows: Any, state: Any, place: int, owner: Any, u: Any, coefficients: Any, inner: Any) -> None:
    """Advance the memories of the rows' users, and replace each row of `inner`, the steps, by what is read of the memory."""
    if w.rate.shape[2] == COMMON:
        _select_common(w, k, rows, state, place, owner, u, coefficients, inner)
    else:
        _select_any(w, k, rows, state, place, owner, u, coefficients, inner)


@jit
def _keep(kept: Any, count: Any, x: Any) -> None:
    """Move the rows `kept` (count,), which are in order, to the front."""
    for place in range(count):
        if kept[place] != place:
            copy_row(x[kept[place]], x[place])


@jit
def advance(
    w: Any, state: Any, items: Any, intervals: Any, buckets: Any, hours: Any, offsets: Any, who: Any, hidden: Any
) -> None:
    """Process the events offsets[b]:offsets[b + 1] of each user b, and update `state[b]` in place.

    `state` is (B, numbers); `items` (E,) are 1..n_items; `intervals` (E,) are scaled and run from each event to the next event
    or the request; `buckets` (E,) are their places in `w.intervals`, or (0,) if it is empty; `hours` (E,) are the hours of the
    week at the end of each interval, or (0,) likewise; `who` (B, H) is added to each event's embedding. `hidden` (B, H) receives
    the output after the last event; it is unchanged for users without events.
    """
    blocks, width = w.skip.shape[0], w.items.shape[1]
    pre, embeds, reads_hours = w.final_scale.shape[0] > 0, w.intervals.shape[0] > 0, w.hours.shape[0] > 0
    states, channels = w.rate_re.shape[1], w.taps.shape[2]
    input_numbers, relation_numbers = (w.taps.shape[1] - 1) * channels, channels * w.rate.shape[2]
    room = min(CHUNK, len(items))
    owner, ends = np.empty(room, np.int64), np.empty(room, np.int64)
    x, z = np.empty((room, width), np.float32), np.empty((room, width), np.float32)
    y = np.empty((room, w.out_proj.shape[1] * PANEL), np.float32)
    drive, factors = np.empty((room, w.drive.shape[1] * PANEL), np.float32), np.empty((4, states), np.float32)
    # Parts of one array would be of another type, for which numba would compile `dense` again.
    wide = (room, w.in_proj.shape[1] * PANEL)
    u, gate, inner = np.empty(wide, np.float32), np.empty(wide, np.float32), np.empty(wide, np.float32)
    coefficients, sums = np.empty((room, w.x_proj.shape[1] * PANEL), np.float32), np.empty(channels, np.float32)
    user, zero = 0, np.int64(0)  # a literal 0 would be a type of its own
    for begin in range(offsets[0], offsets[-1], CHUNK):
        rows, finished = min(CHUNK, offsets[-1] - begin), zero
        for r in range(rows):
            t = begin + r
            while offsets[user + 1] <= t:
                user += 1
            owner[r] = user
            if t + 1 == offsets[user + 1]:
                ends[finished] = r
                finished += 1
            for i in range(width):
                x[r, i] = w.items[items[t], i] + who[user, i]
            if embeds:
                for i in range(width):
                    x[r, i] += w.intervals[buckets[t], i]
            if reads_hours:
                for i in range(width):
                    x[r, i] += w.hours[hours[t], i]
        place, read = zero, rows  # only users' last events need the output of the last layer
        for k in range(blocks):
            if states > 0:
                _read(pre, x, rows, w.norm_scale[k], w.norm_shift[k], z)
                dense(z, rows, w.drive[k], drive)
                _time_aware(w, k, rows, intervals[begin : begin + rows], state, place, owner, drive, factors)
                if k == blocks - 1 and channels == 0:
                    read = finished
                    _keep(ends, read, x)
                    _keep(ends, read, z)
                    _keep(ends, read, drive)
                dense(drive, read, w.read[k], y)
                for r in range(read):
                    for i in range(width):
                        y[r, i] += w.skip[k, i] * z[r, i]
                _add(pre, x, read, y, w.norm_scale[k], w.norm_shift[k])
                place += 2 * states
            if channels > 0:
                _read(pre, x, rows, w.relation_scale[k], w.relation_shift[k], z)
                dense(z, rows, w.in_proj[k], u)
                _convolve(w, k, rows, state, place, owner, u, sums)
                place += input_numbers
                dense(u, rows, w.x_proj[k], coefficients)
                dense(coefficients, rows, w.dt_proj[k], inner)
                _select(w, k, rows, state, place, owner, u, coefficients, inner)
                place += relation_numbers
                if k == blocks - 1:
                    read = finished
                    _keep(ends, read, x)
                    _keep(ends, read, z)
                    _keep(ends, read, inner)
                dense(z, read, w.gate[k], gate)
                for r in range(read):
                    for d in range(channels):
                        inner[r, d] *= _silu(gate[r, d])
                dense(inner, read, w.out_proj[k], y)
                _add(pre, x, read, y, w.relation_scale[k], w.relation_shift[k])
        for r in range(read):
            if pre:
                _normalise(x[r], w.final_scale, w.final_shift, hidden[owner[ends[r]]])
            else:
                copy_row(x[r], hidden[owner[ends[r]]])
