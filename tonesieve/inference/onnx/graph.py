"""An ONNX graph, written node by node: what `onnx.helper` leaves to be said again and again.

Values go by their names. Standard operators alone, of a set that runtimes have had since 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
PRODUCER = "tonesieve"
Shape = Sequence[int | str]


class Graph:
    """Nodes in the order they run in, with what goes in, what comes out, and the constants."""

    def __init__(self, outer: Graph | None = None) -> None:
        self.nodes: list[Any] = []
        self.constants: list[TensorProto] = [] if outer is None else outer.constants
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self._names: list[str] = [] if outer is None else outer._names

    def op(self, kind: str, *given: str, **attributes: Any) -> str:
        """A node with one output; the name of that."""
        return self.ops(kind, given, 1, **attributes)[0]

    def ops(self, kind: str, given: Sequence[str], n: int, **attributes: Any) -> list[str]:
        """A node with ``n`` outputs; their names."""
        names = [self._name(kind) for _ in range(n)]
        self.nodes.append(helper.make_node(kind, given, names, names[0], **attributes))
        return names

    def constant(self, values: Any, *, double: bool = False) -> str:
        """An array within the graph: whole numbers as int64, all others as float32, or double."""
        array = np.asarray(values)
        other = np.float64 if double else np.float32
        array = array.astype(np.int64 if array.dtype.kind in "iu" else other)
        name = self._name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        """Another shape; 0 keeps the axis that stood there, -1 is what is left."""
        return self.op("Reshape", value, self.constant(shape))

    def transpose(self, value: str, *order: int) -> str:
        """The axes in another order."""
        return self.op("Transpose", value, perm=list(order))

    def last(self, value: str, n: int, axis: int = 0) -> str:
        """The last ``n`` along an axis."""
        places = ([-n], [np.iinfo(np.int64).max], [axis])
        return self.op("Slice", value, *(self.constant(place) for place in places))

    def length(self, value: str, axis: int) -> str:
        """How long an axis is, as a vector of one number."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def counting(self, n: str) -> str:
        """0, 1, ... below a vector of one number."""
        return self.op("Range", self.constant(0), self.op("Squeeze", n), self.constant(1))

    def cast(self, value: str, *, double: bool = False) -> str:
        """As float32, or double."""
        return self.op("Cast", value, to=TensorProto.DOUBLE if double else TensorProto.FLOAT)

    def scan(
        self, body: Callable[[Graph, str, list[str]], str], state: str, given: Sequence[str]
    ) -> tuple[str, str]:
        """A recurrence along the first axis: the states after every step, and the last.

        ``body`` writes one step into a graph of its own, from the state and what is given at that
        step; it answers the name of the next state. Everything within is double: in single
        precision a turn is off by as much every time, and over thousands that adds up.
        """
        inner = Graph(self)
        before, now = inner._name("before"), [inner._name("now") for _ in given]
        after = body(inner, before, now)
        answer = inner.op("Identity", after)
        graph = helper.make_graph(
            inner.nodes,
            inner._name("step"),
            [_double(name) for name in (before, *now)],
            [_double(name) for name in (after, answer)],
        )
        wide = [self.cast(value, double=True) for value in (state, *given)]
        last, states = self.ops("Scan", wide, 2, body=graph, num_scan_inputs=len(given))
        return self.cast(states), self.cast(last)

    def input(self, name: str, shape: Shape, about: str) -> str:
        """Something that goes in, float32."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape, about))
        return name

    def output(self, name: str, value: str, shape: Shape, about: str) -> None:
        """Something that comes out, float32."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape, about))

    def model(self, name: str, about: str, metadata: Mapping[str, str], version: str) -> ModelProto:
        """The whole as a model that has passed ONNX's own checks."""
        graph = helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, self.constants, about
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
            producer_version=version,
            doc_string=about,
        )
        helper.set_model_props(model, dict(metadata))
        checker.check_model(model, full_check=True)
        return model

    def _name(self, kind: str) -> str:
        self._names.append(f"{kind.lower()}_{len(self._names)}")
        return self._names[-1]


def _double(name: str) -> ValueInfoProto:
    """A value of whatever shape."""
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, None)
