# SPDX-License-Identifier: Apache-2.0
"""A part of a model with its floats as float64, for an oracle to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mmcc.frontend.expose_steps import body_of

Array = NDArray[Any]
_TYPES = ("to", "dtype")  # attributes that say in which type a node answers


def model_of(source: str | bytes) -> onnx.ModelProto:
    """A model of its path or bytes."""
    return onnx.load(source) if isinstance(source, str) else onnx.load_from_string(source)


def in_double(
    model: onnx.ModelProto, name: str, known: Mapping[str, Array], loops: Sequence[str] = ()
) -> tuple[bytes, dict[str, Array]] | None:
    """The part of a model that makes `name` of `known` values, and its inputs.

    `loops` are those around the value, named as for `expose_steps`; `known` has what their steps see, too.
    None where a node in it has a body, or the value depends on others than the known ones.
    """
    around = body_of(model.graph, loops)
    part = None if around is None else _part(around, name, known)
    if part is None:
        return None
    nodes, given, constants = part
    inputs = [helper.make_tensor_value_info(n, _element(a), a.shape) for n, a in given.items()]
    graph = helper.make_graph(nodes, "part", inputs, [onnx.ValueInfoProto(name=name)], constants)
    double = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return double.SerializeToString(), given


def _part(
    around: Sequence[onnx.GraphProto], name: str, known: Mapping[str, Array]
) -> tuple[list[onnx.NodeProto], dict[str, Array], list[onnx.TensorProto]] | None:
    """The nodes that make the value, what they are given, and their constants, floats as float64.

    All are in the last graph of `around`, or constants of one before."""
    inner = around[-1]
    constants_around = [node for graph in around[:-1] for node in graph.node if node.op_type == "Constant"]
    nodes_there = [*constants_around, *inner.node]
    maker = {output: node for node in nodes_there for output in node.output if output}
    stored = {constant.name: constant for graph in around for constant in graph.initializer}
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
    nodes = [_wide_node(node) for node in nodes_there if made.intersection(node.output)]
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
