# SPDX-License-Identifier: Apache-2.0
"""Integer inputs of a model that are indices or lengths, and how many values these may have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import helper

from mmcc.frontend.expose import inferred_values
from mmcc.ir.types import Shape

PASSING = (
    *("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Clip"),
    *("Slice", "Split", "Gather", "GatherElements", "TopK"),  # some of the values
)
COMPUTING = (
    *("Add", "Sub", "Mul", "Mod", "Where", "Less", "Not", "Max", "Min"),  # as x + (x < 0) * n does
    "Concat",
)
PICKING = ("Gather", "GatherElements", "Scatter", "ScatterElements")  # with indices of one axis
PICKING_ND = ("GatherND", "ScatterND")  # with indices of several axes side by side


RECURRENT = ("RNN", "GRU", "LSTM")  # with the lengths of their sequences


def index_extents(model: Path, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """By input of the model, among how many its values pick one, or how many lengths there are, if they do.

    `shapes` are the inputs' own, without symbolic dimensions.
    """
    loaded = onnx.load(model, load_external_data=False)
    graph = loaded.graph
    for value in graph.input:
        if value.name in shapes:
            number = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, number, shapes[value.name]))
    known = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *inferred_values(loaded).values()):
        known.setdefault(value.name, tuple(d.dim_value for d in value.type.tensor_type.shape.dim))
    of = {value.name: value.name for value in graph.input}  # which input a tensor is made of
    found: dict[str, int] = {}
    for node in graph.node:
        passed = node.input if node.op_type in COMPUTING else node.input[: node.op_type in PASSING]
        origins = [of[name] for name in passed if name in of]
        made = node.output[:1] if node.op_type == "TopK" else node.output  # its second result are places
        of |= dict.fromkeys(made, origins[0]) if origins else {}
        at = 4 if node.op_type in RECURRENT else 1
        if node.op_type not in (*PICKING, *PICKING_ND, *RECURRENT) or at >= len(node.input):
            continue
        x, bounded = known.get(node.input[0], ()), node.input[at]
        count = _lengths(node, x) if at == 4 else _picked(node, x, known.get(bounded, ()))
        if count > 0 and bounded in of:
            found[of[bounded]] = min(count, found.get(of[bounded], count))
    return found


def _lengths(node: onnx.NodeProto, x: Shape) -> int:
    """How many lengths a sequence may have, from 0 to all steps; 0 if it is not known."""
    batch_first = any(a.name == "layout" and a.i for a in node.attribute)
    steps = x[batch_first] if len(x) == 3 else 0
    return steps + 1 if steps > 0 else 0


def _picked(node: onnx.NodeProto, shape: tuple[int, ...], indices: tuple[int, ...]) -> int:
    """The extent of the axis that a node's indices are of, the least of several; 0 if it is not known."""
    numbers = {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}
    if node.op_type in PICKING:
        axis = numbers.get("axis", 0)
        return shape[axis] if -len(shape) <= axis < len(shape) else 0
    first = numbers.get("batch_dims", 0)
    return min(shape[first : first + indices[-1]], default=0) if indices else 0
