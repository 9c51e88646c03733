"""Matrix products for serving, on one core and without a BLAS.

`dense` multiplies rows with weights. Each output is one sum over the inputs in their order, so a row gives the same numbers to the
last bit, whatever rows are beside it. The weights lie in panels of sixteen outputs, and a tile of sums stays in vector registers
while a panel is read once. The loops of numba cannot be made to do that, so the tiles are written in LLVM's own form.

`products` gives the inner products of a few hidden states with all item vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils as untyped
from numba.extending import intrinsic

from models.compiled import jit

__all__ = ["PANEL", "dense", "packed", "padded", "products"]

PANEL = 16  # outputs that lie together, in two vectors of eight
_LANES = 8
cgutils: Any = untyped  # it has no types
_VECTOR = ir.VectorType(ir.FloatType(), _LANES)
Floats = npt.NDArray[np.float32]


def padded(outputs: int) -> int:
    """Return the number of columns that the outputs of `dense` take: a multiple of `PANEL`."""
    return -(-outputs // PANEL) * PANEL


def packed(matrices: Floats) -> Floats:
    """Return the matrices (K, outputs, inputs) as panels (K, padded outputs / PANEL, inputs, PANEL), with zeros at the end."""
    count, outputs, inputs = matrices.shape
    wide = np.zeros((count, padded(outputs) // PANEL, PANEL, inputs), np.float32)
    wide.reshape(count, padded(outputs), inputs)[:, :outputs] = matrices
    return np.ascontiguousarray(wide.transpose(0, 1, 3, 2))


def _tile(rows: int, panels: int) -> Any:
    """Return a compiled function that fills `rows` rows and `panels` panels of outputs, from a row and a panel on."""

    def tile(typing_context: Any, x: Any, row: Any, weights: Any, panel: Any, out: Any) -> Any:
        return types.void(x, types.intp, weights, types.intp, out), generate

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, weights, out = (context.make_array(signature.args[place])(context, builder, arguments[place]) for place in (0, 2, 4))
        row, panel = arguments[1], arguments[3]
        inputs = cgutils.unpack_tuple(builder, weights.shape, 3)[1]
        width, columns = (cgutils.unpack_tuple(builder, array.shape, 2)[1] for array in (x, out))
        size = builder.mul(inputs, ir.Constant(inputs.type, PANEL))

        def number(value: int) -> Any:
            return ir.Constant(inputs.type, value)

        begins = [builder.gep(x.data, [builder.mul(builder.add(row, number(r)), width)]) for r in range(rows)]
        lanes = [(q, half) for q in range(panels) for half in range(PANEL // _LANES)]
        bases = [builder.gep(weights.data, [builder.mul(builder.add(panel, number(q)), size)]) for q in range(panels)]
        zero = ir.Constant(_VECTOR, [0.0] * _LANES)
        sums = {(r, *lane): cgutils.alloca_once_value(builder, zero) for r in range(rows) for lane in lanes}
        with cgutils.for_range(builder, inputs, intp=inputs.type) as loop:
            at = builder.mul(loop.index, number(PANEL))
            for lane in lanes:
                address = builder.gep(bases[lane[0]], [builder.add(at, number(_LANES * lane[1]))])
                part = builder.load(builder.bitcast(address, _VECTOR.as_pointer()), align=4)
                for r in range(rows):
                    value = builder.load(builder.gep(begins[r], [loop.index]))
                    wide = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
                    wide = builder.shuffle_vector(
                        wide, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None)
                    )
                    product = builder.fmul(wide, part, flags=("contract",))
                    total = sums[r, *lane]
                    builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
        for (r, q, half), total in sums.items():
            column = builder.add(builder.mul(builder.add(panel, number(q)), number(PANEL)), number(_LANES * half))
            address = builder.gep(out.data, [builder.add(builder.mul(builder.add(row, number(r)), columns), column)])
            builder.store(builder.load(total), builder.bitcast(address, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return intrinsic(tile)


_four_rows = _tile(4, 1)
_four_panels = _tile(1, 4)
_one = _tile(1, 1)


@jit
def dense(x: Any, rows: Any, weights: Any, out: Any) -> None:
    """Write the products of the first `rows` rows of x with the panels of a matrix to `out` (R, padded outputs).

    x (R, columns) may have more columns than the matrix has inputs. All arrays are contiguous.
    """
    panels, together = weights.shape[0], rows - rows % 4
    for panel in range(panels):
        for row in range(0, together, 4):
            _four_rows(x, row, weights, panel, out)
    for row in range(together, rows):
        for panel in range(0, panels - panels % 4, 4):
            _four_panels(x, row, weights, panel, out)
        for panel in range(panels - panels % 4, panels):
            _one(x, row, weights, panel, out)


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
