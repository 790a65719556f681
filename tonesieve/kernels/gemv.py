"""Sums of weighted inputs as vector instructions: z = b + W x for a few lines of outputs.

A compiler that does not know whether two arrays overlap keeps nothing in registers and checks again
and again, which costs more than the sums; so these are put together by hand, for whatever vectors
the processor has. Every stream's sum takes its products in the same order, fused where the
processor can, however many streams there are: results agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tonesieve.kernels.network_vm.opcodes import LINE, TILE

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LINE)


def _intrinsic(instructions: Callable[[_IrBuilder, Any], None]) -> Any:
    """What takes three flat arrays, places in them and a number of things to add."""

    @intrinsic
    def sums(
        typing: Any,
        outputs: Any,
        zs: Any,
        z_apart: Any,
        inputs: Any,
        xs: Any,
        x_apart: Any,
        weights: Any,
        first: Any,
        second: Any,
        n: Any,
    ) -> Any:
        given = (outputs, zs, z_apart, inputs, xs, x_apart, weights, first, second, n)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            instructions(_IrBuilder(context, builder, signature, args), args)
            return context.get_dummy_value()

        return types.void(*given), generate

    return sums


def _write_sums(write: _IrBuilder, args: Any, n_streams: int, n_lines: int) -> None:
    """Four running sums a stream: of four lines, or of every fourth input of one line."""
    builder = write.builder
    _, zs, z_apart, _, xs, x_apart, _, bias, at, n = args
    z_at, x_at = (
        [builder.add(begin, builder.mul(apart, write.number(p))) for p in range(n_streams)]
        for begin, apart in ((zs, z_apart), (xs, x_apart))
    )
    at_once = TILE // n_lines  # inputs
    totals = [
        [write.variable(write.load(write.weights, bias, line)) for line in range(n_lines)]
        + [write.variable(ir.Constant(_VECTOR, None)) for _ in range(TILE - n_lines)]
        for _ in range(n_streams)
    ]
    step = write.number(at_once)
    whole = builder.sub(n, builder.urem(n, step))
    with cgutils.for_range_slice(builder, write.number(0), whole, step, inc=True) as (j, _):
        rows = builder.add(at, builder.mul(j, write.number(n_lines * LINE)))
        vectors = [write.load(write.weights, rows, k) for k in range(TILE)]
        for begin, own in zip(x_at, totals, strict=True):
            place = builder.add(begin, j)
            inputs = [write.everywhere(place, k) for k in range(at_once)]
            for k, (total, vector) in enumerate(zip(own, vectors, strict=True)):
                write.add(total, inputs[k // n_lines], vector)
    with cgutils.for_range_slice(builder, whole, n, write.number(1), inc=True) as (j, _):
        vector = write.load(write.weights, builder.add(at, builder.mul(j, write.number(LINE))), 0)
        for begin, own in zip(x_at, totals, strict=True):
            write.add(own[0], write.everywhere(builder.add(begin, j), 0), vector)
    for place, own in zip(z_at, totals, strict=True):
        found = [builder.load(total) for total in own]
        if n_lines == 1:
            pairs = [builder.fadd(found[k], found[k + 1]) for k in (0, 2)]
            found = [builder.fadd(*pairs)]
        for line, vector in enumerate(found):
            write.store(vector, place, line)


def _write_collection(write: _IrBuilder, args: Any, n_rows: int) -> None:
    """A tile of outputs a row stays in registers while all streams are added."""
    builder = write.builder
    _, zs, z_apart, _, xs, x_apart, _, at, w_apart, n = args
    z_at = [builder.add(zs, builder.mul(z_apart, write.number(p))) for p in range(n_rows)]
    totals = [
        [write.variable(write.load(write.outputs, place, line)) for line in range(TILE)]
        for place in z_at
    ]
    with cgutils.for_range(builder, n) as loop:
        row = builder.add(at, builder.mul(loop.index, w_apart))
        begin = builder.add(xs, builder.mul(loop.index, x_apart))
        vectors = [write.load(write.weights, row, line) for line in range(TILE)]
        for p, own in enumerate(totals):
            value = write.everywhere(begin, p)
            for total, vector in zip(own, vectors, strict=True):
                write.add(total, value, vector)
    for place, own in zip(z_at, totals, strict=True):
        for line, total in enumerate(own):
            write.store(builder.load(total), place, line)


class _IrBuilder:
    """Writes instructions on the three arrays that an intrinsic is given."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder = builder
        self.outputs, self.inputs, self.weights = (
            context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 6)
        )
        self._index = args[1].type
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.fmuladd.v{LINE}f32"
        self._fused = cgutils.get_or_insert_function(builder.module, kind, name)

    def number(self, value: int) -> Any:
        return ir.Constant(self._index, value)

    def variable(self, value: Any) -> Any:
        return cgutils.alloca_once_value(self.builder, value)

    def load(self, array: Any, at: Any, line: int) -> Any:
        place = self.builder.gep(array, [self.builder.add(at, self.number(line * LINE))])
        vector = self.builder.bitcast(place, _VECTOR.as_pointer())
        return self.builder.load(vector, align=4, typ=_VECTOR)

    def store(self, value: Any, at: Any, line: int) -> None:
        place = self.builder.gep(self.outputs, [self.builder.add(at, self.number(line * LINE))])
        self.builder.store(value, self.builder.bitcast(place, _VECTOR.as_pointer()), align=4)

    def everywhere(self, at: Any, k: int) -> Any:
        """One input in all places of a vector."""
        place = self.builder.gep(self.inputs, [self.builder.add(at, self.number(k))])
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        one = self.builder.insert_element(undefined, self.builder.load(place), self.number(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LINE), [0] * LINE)
        return self.builder.shuffle_vector(one, undefined, zeros)

    def add(self, total: Any, one: Any, other: Any) -> None:
        """total += one * other."""
        found = self.builder.call(self._fused, [one, other, self.builder.load(total)])
        self.builder.store(found, total)


# Of the flat arrays: outputs from zs and inputs from xs on, each stream apart from the one before;
# of the weights: b from ``bias`` and W from ``at`` on, a row an input, of n inputs.
tile_of_one, tile_of_four, line_of_one, line_of_four = (
    _intrinsic(partial(_write_sums, n_streams=p, n_lines=n)) for n in (TILE, 1) for p in (1, 4)
)
# Of the flat arrays: rows of outputs from zs on, z_apart from each other; of each of n streams the
# inputs from xs on, one a row, and the weights from ``at`` on, apart from those of the one before.
collect_one, collect_four = (_intrinsic(partial(_write_collection, n_rows=p)) for p in (1, 4))
