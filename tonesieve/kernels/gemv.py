"""Matrix-vector and outer-product microkernels: y = b + W x and G += x' w, a tile of outputs.

A compiler that does not know whether two arrays overlap keeps nothing in registers, which costs
more than the sums; so these are written in LLVM's intermediate representation, for whatever vectors
the processor has: register blocking as in K. Goto and R. A. van de Geijn, ACM Transactions on
Mathematical Software 34, 2008. Every stream's sum takes its products in the same order, fused where
the processor can, for any number of streams: results agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tonesieve.kernels.tiling import LINE, TILE

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LINE)


def _intrinsic(write: Callable[[_IrBuilder, Any], None]) -> Any:
    """Make an intrinsic of three flat arrays, offsets into them, and the number of terms."""

    @intrinsic
    def microkernel(
        typing: Any,
        outputs: Any,
        y_offset: Any,
        y_stride: Any,
        inputs: Any,
        x_offset: Any,
        x_stride: Any,
        weights: Any,
        w_first: Any,
        w_second: Any,
        n: Any,
    ) -> Any:
        arguments = (
            outputs, y_offset, y_stride, inputs, x_offset, x_stride, weights, w_first, w_second, n
        )  # fmt: skip

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            write(_IrBuilder(context, builder, signature, args), args)
            return context.get_dummy_value()

        return types.void(*arguments), generate

    return microkernel


def _write_gemv(emit: _IrBuilder, args: Any, n_streams: int, n_lines: int) -> None:
    """Four running sums a stream: of four lines, or of every fourth input of one line."""
    builder = emit.builder
    _, y_offset, y_stride, _, x_offset, x_stride, _, bias, matrix, n = args
    y_rows, x_rows = (
        [builder.add(offset, builder.mul(stride, emit.number(p))) for p in range(n_streams)]
        for offset, stride in ((y_offset, y_stride), (x_offset, x_stride))
    )
    n_inputs = TILE // n_lines  # that are taken together
    totals = [
        [emit.variable(emit.load(emit.weights, bias, line)) for line in range(n_lines)]
        + [emit.variable(ir.Constant(_VECTOR, None)) for _ in range(TILE - n_lines)]
        for _ in range(n_streams)
    ]
    step = emit.number(n_inputs)
    n_in_steps = builder.sub(n, builder.urem(n, step))
    with cgutils.for_range_slice(builder, emit.number(0), n_in_steps, step, inc=True) as (j, _):
        columns = builder.add(matrix, builder.mul(j, emit.number(n_lines * LINE)))
        vectors = [emit.load(emit.weights, columns, k) for k in range(TILE)]
        for x_row, sums in zip(x_rows, totals, strict=True):
            offset = builder.add(x_row, j)
            inputs = [emit.splat(offset, k) for k in range(n_inputs)]
            for k, (total, vector) in enumerate(zip(sums, vectors, strict=True)):
                emit.multiply_add(total, inputs[k // n_lines], vector)
    with cgutils.for_range_slice(builder, n_in_steps, n, emit.number(1), inc=True) as (j, _):
        vector = emit.load(emit.weights, builder.add(matrix, builder.mul(j, emit.number(LINE))), 0)
        for x_row, sums in zip(x_rows, totals, strict=True):
            emit.multiply_add(sums[0], emit.splat(builder.add(x_row, j), 0), vector)
    for y_row, sums in zip(y_rows, totals, strict=True):
        results = [builder.load(total) for total in sums]
        if n_lines == 1:
            pairs = [builder.fadd(results[k], results[k + 1]) for k in (0, 2)]
            results = [builder.fadd(*pairs)]
        for line, vector in enumerate(results):
            emit.store(vector, y_row, line)


def _write_outer(emit: _IrBuilder, args: Any, n_rows: int) -> None:
    """A tile of outputs a row stays in registers while all streams are added."""
    builder = emit.builder
    _, y_offset, y_stride, _, x_offset, x_stride, _, w_offset, w_stride, n = args
    y_rows = [builder.add(y_offset, builder.mul(y_stride, emit.number(p))) for p in range(n_rows)]
    totals = [
        [emit.variable(emit.load(emit.outputs, y_row, line)) for line in range(TILE)]
        for y_row in y_rows
    ]
    with cgutils.for_range(builder, n) as loop:
        w_row = builder.add(w_offset, builder.mul(loop.index, w_stride))
        x_row = builder.add(x_offset, builder.mul(loop.index, x_stride))
        vectors = [emit.load(emit.weights, w_row, line) for line in range(TILE)]
        for p, sums in enumerate(totals):
            value = emit.splat(x_row, p)
            for total, vector in zip(sums, vectors, strict=True):
                emit.multiply_add(total, value, vector)
    for y_row, sums in zip(y_rows, totals, strict=True):
        for line, total in enumerate(sums):
            emit.store(builder.load(total), y_row, line)


class _IrBuilder:
    """Writes instructions on the three arrays of an intrinsic."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder = builder
        self.outputs, self.inputs, self.weights = (
            context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 6)
        )
        self._index = args[1].type
        fma_type = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.fmuladd.v{LINE}f32"
        self._fma = cgutils.get_or_insert_function(builder.module, fma_type, name)

    def number(self, value: int) -> Any:
        return ir.Constant(self._index, value)

    def variable(self, value: Any) -> Any:
        return cgutils.alloca_once_value(self.builder, value)

    def load(self, array: Any, offset: Any, line: int) -> Any:
        address = self.builder.gep(array, [self.builder.add(offset, self.number(line * LINE))])
        vector = self.builder.bitcast(address, _VECTOR.as_pointer())
        return self.builder.load(vector, align=4, typ=_VECTOR)

    def store(self, value: Any, offset: Any, line: int) -> None:
        address = self.builder.gep(
            self.outputs, [self.builder.add(offset, self.number(line * LINE))]
        )
        self.builder.store(value, self.builder.bitcast(address, _VECTOR.as_pointer()), align=4)

    def splat(self, offset: Any, k: int) -> Any:
        """One input in all lanes of a vector."""
        address = self.builder.gep(self.inputs, [self.builder.add(offset, self.number(k))])
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, self.builder.load(address), self.number(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LINE), [0] * LINE)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def multiply_add(self, total: Any, a: Any, b: Any) -> None:
        """total += a * b."""
        result = self.builder.call(self._fma, [a, b, self.builder.load(total)])
        self.builder.store(result, total)


# y = b + W x for 1 or 4 streams, a tile or a line of outputs. Arguments: outputs, offset of the
# first stream's and stride to the next one's; the same of the inputs; weights, offset of b and of
# W, a row an input; number of inputs.
gemv_tile_1, gemv_tile_4, gemv_line_1, gemv_line_4 = (
    _intrinsic(partial(_write_gemv, n_streams=p, n_lines=n)) for n in (TILE, 1) for p in (1, 4)
)
# G += x' w for 1 or 4 rows of G, a tile of outputs. Arguments: outputs, offset of the first row and
# stride to the next one; inputs, one a row of G, offset of the first stream's and stride to the
# next one's; the same of the weights; number of streams.
outer_accumulate_1, outer_accumulate_4 = (
    _intrinsic(partial(_write_outer, n_rows=p)) for p in (1, 4)
)
