"""Arrays laid one after the other in one flat buffer, and named by their order.

State that is saved, or handed to compiled code in one piece, is one flat array of numbers. Its
layout is a tuple of shapes: `split_buffer` gives the arrays of these shapes as views, in Python
and in compiled code alike, so that a layout is written down once. A NamedTuple gives them names:
``State(*split_buffer(buffer, shapes))``.

Compiled code must write to such views in a function that gets them as arguments, not in the one
that makes them: there, Numba's removal of dead code, which runs where functions are inlined, does
not know that the views and the buffer are the same memory, and removes the writes.

Compiled views do not keep their buffer in memory, which saves counting: whoever owns it must.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import extending, types
from numba.core import cgutils
from numba.extending import overload
from numba.np.arrayobj import make_view

Shapes = Sequence[tuple[int, ...]]
# An intrinsic is called with fewer arguments than it is written with.
intrinsic: Any = extending.intrinsic


def buffer_size(shapes: Shapes) -> int:
    """How many numbers arrays of these shapes hold together."""
    return sum(math.prod(shape) for shape in shapes)


def split_buffer(buffer: np.ndarray, shapes: Shapes) -> tuple[np.ndarray, ...]:
    """Views of a flat buffer as arrays of these shapes, one after the other."""
    views, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        views.append(buffer[start:stop].reshape(shape))
        start = stop
    return tuple(views)


@intrinsic
def _split(typing: Any, buffer: Any, shapes: Any) -> Any:
    kinds = [types.Array(buffer.dtype, len(shape), "C") for shape in shapes]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        parent = context.make_array(kind)(context, builder, args[0])
        start, views = parent.data, []
        for index, view_kind in enumerate(kinds):
            shape = cgutils.unpack_tuple(builder, builder.extract_value(args[1], index))
            size = parent.itemsize
            strides: list[Any] = []
            for length in reversed(shape):
                strides.insert(0, size)
                size = builder.mul(size, length)
            view = make_view(context, builder, kind, parent, view_kind, start, shape, strides)
            view.meminfo = cgutils.get_null_value(view.meminfo.type)
            views.append(view._getvalue())
            start = cgutils.pointer_add(builder, start, size)
        return context.make_tuple(builder, signature.return_type, views)

    return types.Tuple(kinds)(buffer, shapes), generate


@intrinsic
def _size(typing: Any, shapes: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total = context.get_constant(types.intp, 0)
        for index in range(len(shapes)):
            size = context.get_constant(types.intp, 1)
            for length in cgutils.unpack_tuple(builder, builder.extract_value(args[0], index)):
                size = builder.mul(size, length)
            total = builder.add(total, size)
        return total

    return types.intp(shapes), generate


@overload(buffer_size)
def _compiled_size(shapes):  # type: ignore[no-untyped-def]
    return lambda shapes: _size(shapes)  # noqa: PLW0108  # no jitted function


@overload(split_buffer)
def _compiled_split(buffer, shapes):  # type: ignore[no-untyped-def]
    return lambda buffer, shapes: _split(buffer, shapes)  # noqa: PLW0108  # no jitted function
