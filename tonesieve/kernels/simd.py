"""A vector of sixteen float64 in one SIMD register (or a few), with the operators of a number.

LLVM's loop vectoriser gives up where it can't prove that arrays do not overlap. What is done for
every filter of the bank is therefore written as arithmetic on vectors. `horizontal_sum` adds in
one fixed order, so that results do not depend on the processor's vector width.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, overload, register_model

WIDTH = 16  # lanes of a vector, and filters of the bank
# An intrinsic is called with fewer arguments than it is written with.
intrinsic: Any = extending.intrinsic
_VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)
_INT, _SIZE = ir.IntType(32), ir.IntType(64)
_FLAGS = ("contract", "nsz")


class LanesType(types.Type):
    """Numba's type of a vector of `WIDTH` floats."""

    def __init__(self) -> None:
        super().__init__(name=f"lanes{WIDTH}")


LANES = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """The address of the vector that begins at ``array[index]``."""
    array, index = signature.args[:2]
    own = context.make_array(array)(context, builder, args[0])
    lengths = cgutils.unpack_tuple(builder, own.shape)
    if isinstance(index, types.BaseTuple):
        parts = list(zip(cgutils.unpack_tuple(builder, args[1]), index.types, strict=True))  # type: ignore[attr-defined]
    else:
        parts = [(args[1], index)]
    offset = ir.Constant(_SIZE, 0)
    for axis, (number, kind) in enumerate(parts):
        part = context.cast(builder, number, kind, types.intp)
        offset = builder.add(builder.mul(offset, lengths[axis]), part) if axis else part
    for axis in range(len(parts), array.ndim):
        last = axis == array.ndim - 1
        offset = builder.mul(offset, ir.Constant(_SIZE, WIDTH) if last else lengths[axis])
    return builder.bitcast(builder.gep(own.data, [offset]), _VECTOR.as_pointer())


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """The `WIDTH` numbers of a contiguous array from ``array[index]`` on.

    ``index`` is a number or a tuple of numbers, of as many axes as there are or of the first ones.
    The last axis of an array of two or more has `WIDTH` numbers.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature, args), align=8)

    return LANES(array, index), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write `WIDTH` numbers from ``array[index]`` on; the index is as in `load`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature, args), align=8)
        return context.get_dummy_value()

    return types.void(array, index, value), generate


def _splat(builder: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(_INT, 0))
    mask = ir.Constant(ir.VectorType(_INT, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), mask)


@intrinsic
def splat(typing: Any, number: Any) -> Any:
    """A vector of one number in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return LANES(types.float64), generate


def _binary(instruction: Callable[[Any, Any, Any], Any]) -> Any:
    @intrinsic
    def apply(typing: Any, a: Any, b: Any) -> Any:
        kinds = [kind if isinstance(kind, LanesType) else types.float64 for kind in (a, b)]

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            left, right = (
                arg if isinstance(kind, LanesType) else _splat(builder, arg)
                for arg, kind in zip(args, signature.args, strict=True)
            )
            return instruction(builder, left, right)

        return LANES(*kinds), generate

    return apply


maximum = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
minimum = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


def _overload_operator(symbol: Any, apply: Any) -> None:
    """Define an operator between two vectors, or a vector and a number."""

    def implementation(a, b):  # type: ignore[no-untyped-def]
        if isinstance(a, LanesType) or isinstance(b, LanesType):
            return lambda a, b: apply(a, b)  # noqa: PLW0108  # no jitted function by itself
        return None

    overload(symbol)(implementation)


_overload_operator(operator.add, _binary(lambda builder, a, b: builder.fadd(a, b, flags=_FLAGS)))
_overload_operator(operator.sub, _binary(lambda builder, a, b: builder.fsub(a, b, flags=_FLAGS)))
_overload_operator(operator.mul, _binary(lambda builder, a, b: builder.fmul(a, b, flags=_FLAGS)))
_overload_operator(
    operator.truediv, _binary(lambda builder, a, b: builder.fdiv(a, b, flags=_FLAGS))
)


def _halves(builder: Any, value: Any, width: int) -> tuple[Any, Any]:
    """The lower and the upper half of a vector's lanes."""
    mask = ir.VectorType(_INT, width // 2)
    parts = (range(width // 2), range(width // 2, width))
    low, high = (
        builder.shuffle_vector(value, value, ir.Constant(mask, list(part))) for part in parts
    )
    return low, high


def _sum(builder: Any, value: Any, width: int) -> Any:
    """The sum over all lanes: the upper half is added to the lower until one number is left."""
    while width > 1:
        low, high = _halves(builder, value, width)
        value, width = builder.fadd(low, high), width // 2
    return builder.extract_element(value, ir.Constant(_INT, 0))


@intrinsic
def horizontal_sum(typing: Any, a: Any) -> Any:
    """The sum over all lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _sum(builder, args[0], WIDTH)

    return types.float64(a), generate


@intrinsic
def dot(typing: Any, a: Any, b: Any) -> Any:
    """The sum of the products of all lanes, rounded the same whatever code is around it.

    Of ``horizontal_sum(a * b)`` the compiler may fuse either half of the products with the first
    addition. Here it is the lower half.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (a_low, a_high), (b_low, b_high) = (_halves(builder, arg, WIDTH) for arg in args)
        high = builder.fmul(a_high, b_high, flags=("nsz",))  # not to be fused
        kind = ir.FunctionType(high.type, [high.type] * 3)
        fused = cgutils.get_or_insert_function(
            builder.module, kind, f"llvm.fmuladd.v{WIDTH // 2}f64"
        )
        return _sum(builder, builder.call(fused, [a_low, b_low, high]), WIDTH // 2)

    return types.float64(a, b), generate


@intrinsic
def lane_shift(typing: Any, a: Any) -> Any:
    """Lane j gets the value of lane j - 1; lane 0 keeps its own."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask = ir.Constant(ir.VectorType(_INT, WIDTH), [0, *range(WIDTH - 1)])
        return builder.shuffle_vector(args[0], args[0], mask)

    return LANES(a), generate


@intrinsic
def any_above(typing: Any, a: Any, b: Any) -> Any:
    """Whether any lane is above a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        above = builder.fcmp_ordered(">", args[0], _splat(builder, args[1]))
        bits = builder.bitcast(above, ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(WIDTH), 0))

    return types.boolean(a, types.float64), generate
