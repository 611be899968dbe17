# SPDX-License-Identifier: Apache-2.0
"""Functions for operators that ONNX defines by no others, or not well: written for the shapes of a node.

Indices that are computed at run time go through Gather and Scatter, which move what is outside to the nearest
element, so nothing else is ever read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, NodeProto, helper, numpy_helper

from mmcc.ir.types import Shape

OPSET = 20  # of the functions
MOST_CONSTANT = 2**22  # elements of an array that a function brings along


@dataclass(slots=True)
class Body:
    """The nodes of a function so far. A shape is None where there is no operand, a constant if it is none."""

    shapes: Sequence[Shape | None]
    constants: Sequence[NDArray[Any] | None]
    attributes: dict[str, Any]
    version: int  # of the operator set that the node is of
    nodes: list[NodeProto] = field(default_factory=list[NodeProto])

    def add(self, op: str, *operands: str | float | NDArray[Any], **attributes: Any) -> str:
        """A node more; numbers and arrays become constants. The name of its result."""
        names = [each if isinstance(each, str) else self.constant(each) for each in operands]
        result = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [result], **attributes))
        return result

    def constant(self, value: float | NDArray[Any]) -> str:
        array = np.asarray(value, np.float32) if isinstance(value, (int, float)) else value
        result = f"v{len(self.nodes)}"
        tensor = numpy_helper.from_array(array)
        self.nodes.append(helper.make_node("Constant", [], [result], value=tensor))
        return result

    def shape(self, index: int) -> Shape:
        """Of an operand that must be there; LookupError if it is not."""
        shape = self.shapes[index] if index < len(self.shapes) else None
        if shape is None:
            raise LookupError(index)
        return shape

    def text(self, name: str, default: str) -> str:
        """An attribute of characters."""
        return self.attributes.get(name, default.encode()).decode()

    def has(self, index: int) -> bool:
        """True if an operand is given."""
        return index < len(self.shapes) and self.shapes[index] is not None

    def ints(self, index: int) -> list[int]:
        """A constant operand; LookupError if it is none."""
        array = self.constants[index] if index < len(self.constants) else None
        if array is None:
            raise LookupError(index)
        return [int(value) for value in array.reshape(-1)]


Writer = Callable[[Body], Sequence[str]]
WRITERS: dict[str, Writer] = {}


def written_out(
    node: NodeProto, version: int, shapes: Sequence[Shape | None], constants: Sequence[NDArray[Any] | None]
) -> FunctionProto:
    """The function of a node of ONNX's own domain; LookupError if there is none for it, or for its shapes.

    A shape is None where an operand is not given.
    """
    writer = WRITERS[node.op_type]
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    body = Body(shapes, constants, attributes, version)
    try:
        results = writer(body)
    except (ValueError, ArithmeticError, TypeError, AttributeError) as error:  # of numbers that make no sense
        raise LookupError(node.op_type) from error
    inputs = [f"x{k}" for k in range(len(node.input))]
    outputs = [f"y{k}" for k in range(len(results))]
    body.nodes += [helper.make_node("Identity", [a], [b]) for a, b in zip(results, outputs, strict=True)]
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_function("mmcc", node.op_type, inputs, outputs, body.nodes, opsets)


def writes(name: str) -> Callable[[Writer], Writer]:
    """Register what writes out an operator of ONNX's own domain."""

    def register(writer: Writer) -> Writer:
        WRITERS[name] = writer
        return writer

    return register


def ints(*values: int) -> NDArray[np.int64]:
    """A constant operand of integers."""
    return np.array(values, np.int64)
