# SPDX-License-Identifier: Apache-2.0
"""The graph of a step of training: who makes and reads a value, and which are constant."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from mmcc.errors import CompileError, printable
from mmcc.frontend.load import Source
from mmcc.frontend.problems import unsupported
from mmcc.frontend.tensors import to_array
from mmcc.frontend.training_steps import HINT

SAME = ("Identity", "Cast")
OF_A_SHAPE = ("Shape", "Size")  # their results do not depend on elements


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Attributes of a node by name, as numpy and Python have them."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def unknown_operator(op: str) -> CompileError:
    """The error for an operator of a step whose gradient, or meaning, mmcc does not know."""
    what = f"{printable(op)}, of which mmcc does not know what it should compute,"
    return unsupported(f"{what} in a step of training", HINT)


class StepGraph:
    """A Source with its values by name."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.made = {name: (where, node) for where, node in source.nodes for name in node.output if name}
        self.inputs = {info.name: info for info in source.inputs}
        self.given = self.inputs.keys() | source.initializers.keys()
        self._constants: dict[str, NDArray[Any] | None] = {}
        self._readers: dict[str, list[NodeProto]] = {}
        for _, node in source.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def readers(self, name: str) -> list[NodeProto]:
        """The nodes that read a value."""
        return self._readers.get(name, [])

    def constant(self, name: str) -> NDArray[Any] | None:
        """Elements that are in the file, or a difference of such; None for what is computed or an input."""
        if name not in self._constants:
            self._constants[name] = self._constant(name)
        return self._constants[name]

    def _constant(self, name: str) -> NDArray[Any] | None:
        if name in self.source.initializers:
            return to_array(self.source.initializers[name], self.source.folder)
        _, node = self.made.get(name, (None, None))
        if node is None:
            return None
        if node.op_type == "Constant":
            return _of_node(node, self.source)
        if node.op_type in SAME:
            return self.constant(node.input[0])
        if node.op_type == "Sub":
            a, b = (self.constant(operand) for operand in node.input)
            return None if a is None or b is None else np.asarray(a - b)
        return None

    def number(self, name: str) -> float | None:
        """A constant of one element."""
        array = self.constant(name)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def is_zero(self, name: str) -> bool:
        """Is a value constant, and all of it 0?"""
        _, node = self.made.get(name, (None, None))
        if node is not None and node.op_type == "ConstantOfShape":
            value = attributes_of(node).get("value")
            return value is None or not to_array(value, self.source.folder).any()
        array = self.constant(name)
        return array is not None and not array.any()

    def input_of_one(self, name: str) -> str:
        """The graph's input of one element that a value is, maybe converted; "" if it is none."""
        while name in self.made and self.made[name][1].op_type in SAME:
            name = self.made[name][1].input[0]
        info = self.inputs.get(name)
        if info is None or not info.type.tensor_type.HasField("shape"):
            return ""
        return name if all(dim.dim_value == 1 for dim in info.type.tensor_type.shape.dim) else ""


def _of_node(node: NodeProto, source: Source) -> NDArray[Any] | None:
    attributes = attributes_of(node)
    if "value" in attributes:
        return to_array(attributes["value"], source.folder)
    given = [attributes[name] for name in ("value_float", "value_int", "value_floats", "value_ints")
             if name in attributes]  # fmt: skip
    return np.asarray(given[0]) if given else None
