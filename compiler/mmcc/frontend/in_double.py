# SPDX-License-Identifier: Apache-2.0
"""A part of a model with its floats as float64, for an oracle to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
_TYPES = ("to", "dtype")  # attributes that say in which type a node answers


def model_of(source: str | bytes) -> onnx.ModelProto:
    """A model of its path or bytes."""
    return onnx.load(source) if isinstance(source, str) else onnx.load_from_string(source)


def in_double(
    model: onnx.ModelProto, name: str, known: Mapping[str, Array]
) -> tuple[bytes, dict[str, Array]] | None:
    """The part of a model that makes `name` of `known` values, and its inputs.

    None where a node in it has a body, or the value depends on others than the known ones.
    """
    part = _part(model.graph, name, known)
    if part is None:
        return None
    nodes, given, constants = part
    inputs = [helper.make_tensor_value_info(n, _element(a), a.shape) for n, a in given.items()]
    graph = helper.make_graph(nodes, "part", inputs, [onnx.ValueInfoProto(name=name)], constants)
    double = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return double.SerializeToString(), given


def _part(
    graph: onnx.GraphProto, name: str, known: Mapping[str, Array]
) -> tuple[list[onnx.NodeProto], dict[str, Array], list[onnx.TensorProto]] | None:
    """The nodes that make the value, what they are given, and their constants, floats as float64."""
    maker = {output: node for node in graph.node for output in node.output if output}
    stored = {constant.name: constant for constant in graph.initializer}
    wanted, needed = [name], set[str]()
    given: dict[str, Array] = {}
    constants: list[onnx.TensorProto] = []
    while wanted:
        each = wanted.pop()
        if each in needed or not each:
            continue
        needed.add(each)
        if each in known and each != name:
            given[each] = _wide(known[each])
        elif each in stored:
            constants.append(_wide_tensor(stored[each]))
        elif each in maker:
            wanted += maker[each].input
        else:
            return None
    made = needed - set(given)
    nodes = [_wide_node(node) for node in graph.node if made.intersection(node.output)]
    return None if any(node is None for node in nodes) else ([n for n in nodes if n], given, constants)


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _wide_tensor(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != TensorProto.FLOAT:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)


def _wide_node(node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The node with its floats as float64; None if it has a body."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    for attribute in made.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            return None
        if attribute.type == onnx.AttributeProto.TENSOR:
            attribute.t.CopyFrom(_wide_tensor(attribute.t))
        elif attribute.name in _TYPES and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
    return made


def _element(array: Array) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)
