"""Sixteen numbers at once: a value that compiled code adds and multiplies like one number.

A compiler that does not know whether two arrays overlap makes no vectors of loops over many of
them; so where the same is done for many candidates, it is written for all of them at once.
Reductions take their numbers in one order on every processor.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.extending import models, overload, register_model

WIDTH = 16
# What it makes is called with fewer arguments than it is written with.
intrinsic: Any = extending.intrinsic
_VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)
_INT = ir.IntType(32)
_FLAGS = ("contract", "nsz")


class LanesType(types.Type):
    """The compiler's type of `WIDTH` floats."""

    def __init__(self) -> None:
        super().__init__(name=f"lanes{WIDTH}")


LANES = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _place(context: Any, builder: Any, signature: Any, array: Any, at: Any) -> Any:
    """The address of the vector that begins at a place of a flat array."""
    own = context.make_array(signature.args[0])(context, builder, array)
    return builder.bitcast(builder.gep(own.data, [at]), _VECTOR.as_pointer())


@intrinsic
def load(typing: Any, array: Any, at: Any) -> Any:
    """The numbers from place ``at`` of a flat array on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], signature.args[1], types.intp)
        return builder.load(_place(context, builder, signature, args[0], at), align=8)

    return LANES(array, at), generate


@intrinsic
def store(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Put the numbers at place ``at`` of a flat array and after."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], signature.args[1], types.intp)
        builder.store(args[2], _place(context, builder, signature, args[0], at), align=8)
        return context.get_dummy_value()

    return types.void(array, at, value), generate


def _splat(builder: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(_INT, 0))
    mask = ir.Constant(ir.VectorType(_INT, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), mask)


@intrinsic
def splat(typing: Any, number: Any) -> Any:
    """One number, as often as there is room."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return LANES(types.float64), generate


def _binary(instruction: Callable[[Any, Any, Any], Any]) -> Any:
    @intrinsic
    def apply(typing: Any, a: Any, b: Any) -> Any:
        kinds = [kind if isinstance(kind, LanesType) else types.float64 for kind in (a, b)]

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            one, two = (
                arg if isinstance(kind, LanesType) else _splat(builder, arg)
                for arg, kind in zip(args, signature.args, strict=True)
            )
            return instruction(builder, one, two)

        return LANES(*kinds), generate

    return apply


_max = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
_min = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


def _overloaded(sign: Any, apply: Any) -> None:
    """Let a sign stand between two vectors, or a vector and a number."""

    def chosen(a, b):  # type: ignore[no-untyped-def]
        if isinstance(a, LanesType) or isinstance(b, LanesType):
            return lambda a, b: apply(a, b)  # noqa: PLW0108  # no jitted function by itself
        return None

    overload(sign)(chosen)


_overloaded(operator.add, _binary(lambda builder, a, b: builder.fadd(a, b, flags=_FLAGS)))
_overloaded(operator.sub, _binary(lambda builder, a, b: builder.fsub(a, b, flags=_FLAGS)))
_overloaded(operator.mul, _binary(lambda builder, a, b: builder.fmul(a, b, flags=_FLAGS)))
_overloaded(operator.truediv, _binary(lambda builder, a, b: builder.fdiv(a, b, flags=_FLAGS)))
maximum, minimum = _max, _min


@intrinsic
def horizontal_sum(typing: Any, a: Any) -> Any:
    """The sum of the numbers: halves upon halves."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, width = args[0], WIDTH
        while width > 1:
            width //= 2
            kind = ir.VectorType(_INT, width)
            low = builder.shuffle_vector(value, value, ir.Constant(kind, list(range(width))))
            high = builder.shuffle_vector(
                value, value, ir.Constant(kind, list(range(width, 2 * width)))
            )
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(_INT, 0))

    return types.float64(a), generate


@intrinsic
def lane_shift(typing: Any, a: Any) -> Any:
    """Each number's left neighbour; the first stays."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask = ir.Constant(ir.VectorType(_INT, WIDTH), [0, *range(WIDTH - 1)])
        return builder.shuffle_vector(args[0], args[0], mask)

    return LANES(a), generate


@intrinsic
def any_above(typing: Any, a: Any, b: Any) -> Any:
    """Whether one of the numbers is above a bound."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        above = builder.fcmp_ordered(">", args[0], _splat(builder, args[1]))
        bits = builder.bitcast(above, ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(WIDTH), 0))

    return types.boolean(a, types.float64), generate
