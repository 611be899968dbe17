# SPDX-License-Identifier: Apache-2.0
"""Results of which only the run tells how many rows they have, with as many rows as mmcc gives them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from mmcc.frontend.reads import nodes_below, reads, subgraphs
from mmcc.ops.suppression import NONE

OPERATOR = "NonMaxSuppression"


def finds_rows(model: onnx.ModelProto) -> bool:
    """Whether there is a NonMaxSuppression in a model without functions."""
    return any(node.op_type == OPERATOR for node in nodes_below(model.graph.node))


def with_fixed_rows(model: onnx.ModelProto) -> bool:
    """Let each NonMaxSuppression of the model be followed by rows of -1, up to as many as there may be boxes.

    What comes after it then computes what the C computes. The model has no functions. True if there is one.
    """
    return _fill_up(model.graph, set(), "fixed_rows")


def _fill_up(graph: onnx.GraphProto, around: set[str], name: str) -> bool:
    """Of a graph and its subgraphs; `around` are constants of the graphs around it."""
    nodes: list[NodeProto] = []
    constant = around | {tensor.name for tensor in graph.initializer}
    changed = False
    for number, node in enumerate(graph.node):
        nodes.append(node)
        if constant.issuperset(filter(None, reads(node))):
            constant.update(node.output)  # computed in the compiler, with the rows that it has
            continue
        for k, inner in enumerate(subgraphs(node)):
            changed = _fill_up(inner, constant, f"{name}_{number}_{k}") or changed
        if node.op_type == OPERATOR and not constant.issuperset(node.input[:2]):
            nodes += _filled_up(graph, node, f"{name}_{number}")
            changed = True
    if changed:
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.value_info[:]
        for info in graph.output:  # whose shapes may be of fewer rows
            if info.type.HasField("tensor_type"):
                info.type.tensor_type.ClearField("shape")
    return changed


def _filled_up(graph: onnx.GraphProto, node: NodeProto, name: str) -> list[NodeProto]:
    """Nodes that make the result of so many rows from what `node` gives."""
    result, scores, most = node.output[0], node.input[1], node.input[2]
    node.output[0] = f"{name}_found"
    constants = {"one": [1], "three": [3], "two": [2], "zero": [0], "none": [NONE]}
    for key, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"{name}_{key}"))
    made: list[NodeProto] = []

    def emit(op: str, *inputs: str) -> str:
        made.append(helper.make_node(op, inputs, [f"{name}_{len(made)}"]))
        return made[-1].output[0]

    def joined(first: str, second: str, to: str) -> str:
        made.append(helper.make_node("Concat", [first, second], [to], axis=0))
        return to

    def size(value: str, axis: str) -> str:
        return emit("Gather", emit("Shape", value), f"{name}_{axis}")

    boxes, count = size(scores, "two"), emit("Reshape", most, f"{name}_one")
    count = emit("Where", emit("Less", boxes, count), boxes, count)
    rows = emit("Mul", emit("Mul", size(scores, "zero"), size(scores, "one")), count)
    missing = emit("Sub", rows, size(node.output[0], "zero"))
    filling = emit("Expand", f"{name}_none", joined(missing, f"{name}_three", f"{name}_shape"))
    joined(node.output[0], filling, result)
    return made
