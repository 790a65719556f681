"""Builder of ONNX graphs, node by node.

Values are referred to by name. Standard operators only, of a set that runtimes have since 2022.
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
    """Nodes in their order, inputs, outputs and constants.

    Parameters
    ----------
    outer : Graph, optional
        The graph around this one, whose constants and names it shares.
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self.nodes: list[Any] = []
        self.constants: list[TensorProto] = [] if outer is None else outer.constants
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self._names: list[str] = [] if outer is None else outer._names

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node, and return the name of its output."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[str], n: int, **attributes: Any) -> list[str]:
        """Append a node, and return the names of its ``n`` outputs."""
        names = [self._name(kind) for _ in range(n)]
        self.nodes.append(helper.make_node(kind, inputs, names, names[0], **attributes))
        return names

    def constant(self, values: Any, *, double: bool = False) -> str:
        """Add an array: integers as int64, all others as float32, or double."""
        array = np.asarray(values)
        real = np.float64 if double else np.float32
        array = array.astype(np.int64 if array.dtype.kind in "iu" else real)
        name = self._name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape; 0 keeps the axis at that place, -1 is what remains."""
        return self.op("Reshape", value, self.constant(shape))

    def transpose(self, value: str, *order: int) -> str:
        """Permute the axes."""
        return self.op("Transpose", value, perm=list(order))

    def slice_last(self, value: str, n: int, axis: int = 0) -> str:
        """Take the last ``n`` along an axis."""
        bounds = ([-n], [np.iinfo(np.int64).max], [axis])
        return self.op("Slice", value, *(self.constant(bound) for bound in bounds))

    def length(self, value: str, axis: int) -> str:
        """Length of an axis, as a vector of one number."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def arange(self, n: str) -> str:
        """Count 0, 1, ... below a vector of one number."""
        return self.op("Range", self.constant(0), self.op("Squeeze", n), self.constant(1))

    def cast(self, value: str, *, double: bool = False) -> str:
        """Cast to float32, or double."""
        return self.op("Cast", value, to=TensorProto.DOUBLE if double else TensorProto.FLOAT)

    def scan(
        self, body: Callable[[Graph, str, list[str]], str], state: str, inputs: Sequence[str]
    ) -> tuple[str, str]:
        """Run a recurrence along the first axis, and return all states and the last one.

        ``body`` writes one step into a graph of its own, from the state and the inputs at that
        step; it returns the name of the next state. Everything within is double: in single
        precision the rounding of a rotation is the same at every step, and adds up.
        """
        inner = Graph(self)
        before, now = inner._name("before"), [inner._name("now") for _ in inputs]
        after = body(inner, before, now)
        output = inner.op("Identity", after)
        graph = helper.make_graph(
            inner.nodes,
            inner._name("step"),
            [_double(name) for name in (before, *now)],
            [_double(name) for name in (after, output)],
        )
        doubles = [self.cast(value, double=True) for value in (state, *inputs)]
        last, states = self.ops("Scan", doubles, 2, body=graph, num_scan_inputs=len(inputs))
        return self.cast(states), self.cast(last)

    def input(self, name: str, shape: Shape, about: str) -> str:
        """Declare an input of the graph, float32."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape, about))
        return name

    def output(self, name: str, value: str, shape: Shape, about: str) -> None:
        """Declare an output of the graph, float32."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape, about))

    def model(self, name: str, about: str, metadata: Mapping[str, str], version: str) -> ModelProto:
        """Return the graph as a model that has passed ONNX's own checks."""
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
