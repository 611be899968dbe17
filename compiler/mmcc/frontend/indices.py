# SPDX-License-Identifier: Apache-2.0
"""Integer inputs of a model that are indices, and among how many things they pick one."""

from __future__ import annotations

from pathlib import Path

import onnx

from mmcc.frontend.expose import inferred_values

PASSING = (
    *("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Clip"),
    *("Slice", "Split", "Gather", "GatherElements"),  # some of the values
)
COMPUTING = (
    *("Add", "Sub", "Mul", "Mod", "Where", "Less", "Not", "Max", "Min"),  # as x + (x < 0) * n does
    "Concat",
)
PICKING = ("Gather", "GatherElements", "Scatter", "ScatterElements")  # with indices of one axis
PICKING_ND = ("GatherND", "ScatterND")  # with indices of several axes side by side


def index_extents(model: Path) -> dict[str, int]:
    """By input of the model, among how many its values pick one, if they do."""
    loaded = onnx.load(model, load_external_data=False)
    graph = loaded.graph
    known = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *inferred_values(loaded).values()):
        known.setdefault(value.name, tuple(d.dim_value for d in value.type.tensor_type.shape.dim))
    of = {value.name: value.name for value in graph.input}  # which input a tensor is made of
    found: dict[str, int] = {}
    for node in graph.node:
        passed = node.input if node.op_type in COMPUTING else node.input[: node.op_type in PASSING]
        origins = [of[name] for name in passed if name in of]
        of |= dict.fromkeys(node.output, origins[0]) if origins else {}
        if node.op_type not in (*PICKING, *PICKING_ND) or node.input[1] not in of:
            continue
        picked = _picked(node, known.get(node.input[0], ()), known.get(node.input[1], ()))
        if picked > 0:
            name = of[node.input[1]]
            found[name] = min(picked, found.get(name, picked))
    return found


def _picked(node: onnx.NodeProto, shape: tuple[int, ...], indices: tuple[int, ...]) -> int:
    """The extent of the axis that a node's indices are of, the least of several; 0 if it is not known."""
    numbers = {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}
    if node.op_type in PICKING:
        axis = numbers.get("axis", 0)
        return shape[axis] if -len(shape) <= axis < len(shape) else 0
    first = numbers.get("batch_dims", 0)
    return min(shape[first : first + indices[-1]], default=0) if indices else 0
