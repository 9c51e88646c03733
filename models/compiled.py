"""Compiler settings for the CPU kernels (numba), and math functions that their loops share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = [
    "copy_row",
    "copy_rows",
    "exp2_of_negative",
    "exp_of_negative",
    "expm1_of_negative",
    "jit",
    "sine_and_cosine",
    "softplus",
]

# Division by zero gives infinity, as in numpy: with the check that Python's error needs, no loop that divides is vectorised.
jit: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}, cache=True)

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693145751953125)
_LN2_LOW = np.float32(1.428606765330187e-06)


# An assignment of arrays would have numba compile the words of its error as well, for seconds.


@jit
def copy_row(x: Any, out: Any) -> None:
    """Copy an array of one dimension."""
    for i in range(x.shape[0]):
        out[i] = x[i]


@jit
def copy_rows(x: Any, out: Any) -> None:
    """Copy an array of two dimensions."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j]


@jit
def exp_of_negative(x: Any) -> Any:
    """Compute exp(x) for x <= 0 without a library call.

    LLVM can therefore vectorise the surrounding loop. The relative error is up to 3e-7.
    """
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


@jit
def exp2_of_negative(x: Any) -> Any:
    """Compute 2 to the power of x <= 0 without a library call, as `exp_of_negative`. The relative error is up to 3e-7."""
    x = max(x, np.float32(-126.0))
    k = np.int32(x - np.float32(0.5))
    r = x - np.float32(k)
    p = np.float32(1.540353039338161e-4)  # log(2)^j / j!
    p = p * r + np.float32(1.333355814642844e-3)
    p = p * r + np.float32(9.618129107628477e-3)
    p = p * r + np.float32(5.550410866482158e-2)
    p = p * r + np.float32(2.402265069591007e-1)
    p = p * r + np.float32(6.931471805599453e-1)
    p = p * r + np.float32(1.0)
    return p * np.int32((k + np.int32(127)) << np.int32(23)).view(np.float32)


@jit
def expm1_of_negative(x: Any) -> Any:
    """Compute exp(x) - 1 for x <= 0 without a library call. The relative error is up to 5e-7, also near 0."""
    x = max(x, np.float32(-87.0))
    k = np.int32(x * _LOG2_E - np.float32(0.5))
    r = (x - np.float32(k) * _LN2_HIGH) - np.float32(k) * _LN2_LOW
    p = np.float32(1.0 / 5040.0)
    p = p * r + np.float32(1.0 / 720.0)
    p = p * r + np.float32(1.0 / 120.0)
    p = p * r + np.float32(1.0 / 24.0)
    p = p * r + np.float32(1.0 / 6.0)
    p = p * r + np.float32(0.5)
    p = p * r * r + r
    scale = np.int32((k + np.int32(127)) << np.int32(23)).view(np.float32)
    return p * scale + (scale - np.float32(1.0))


@jit
def sine_and_cosine(x: Any) -> Any:
    """Return a sine and a cosine of x or of x + pi, without a library call. Their products with themselves are those of x.

    x is brought to within pi / 2 in double precision. The error is up to 2e-7 of 1, if x was exact.
    """
    turns = np.floor(np.float64(x) * 0.3183098861837907 + 0.5)
    r = np.float32(np.float64(x) - turns * 3.141592653589793)
    s = r * r
    sine = np.float32(-2.5052108385441720e-8)
    sine = sine * s + np.float32(2.7557319223985893e-6)
    sine = sine * s + np.float32(-1.9841269841269841e-4)
    sine = sine * s + np.float32(8.3333333333333333e-3)
    sine = sine * s + np.float32(-1.6666666666666667e-1)
    cosine = np.float32(2.0876756987868099e-9)
    cosine = cosine * s + np.float32(-2.7557319223985888e-7)
    cosine = cosine * s + np.float32(2.4801587301587302e-5)
    cosine = cosine * s + np.float32(-1.3888888888888889e-3)
    cosine = cosine * s + np.float32(4.1666666666666664e-2)
    cosine = cosine * s + np.float32(-0.5)
    return sine * s * r + r, cosine * s + np.float32(1.0)


@jit
def softplus(x: Any) -> Any:
    """Compute log(1 + exp(x)) without library calls, for loops that should be vectorised.

    Uses log(1 + e) = 2 atanh(e / (2 + e)) with e = exp(-|x|), so the argument of the series is at most 1/3. The relative error
    is up to 4e-7.
    """
    e = exp_of_negative(-abs(x))
    z = e / (np.float32(2.0) + e)
    s = z * z
    p = np.float32(1.0 / 13.0)
    p = p * s + np.float32(1.0 / 11.0)
    p = p * s + np.float32(1.0 / 9.0)
    p = p * s + np.float32(1.0 / 7.0)
    p = p * s + np.float32(1.0 / 5.0)
    p = p * s + np.float32(1.0 / 3.0)
    p = p * s + np.float32(1.0)
    return max(x, np.float32(0.0)) + np.float32(2.0) * z * p
