# SPDX-License-Identifier: Apache-2.0
"""Integer inputs of a model that are indices, and among how many things they pick one."""

from __future__ import annotations

from pathlib import Path

import onnx

from mmcc.frontend.expose import inferred_values

PASSING = ("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Clip")
COMPUTING = ("Add", "Sub", "Mul", "Mod", "Where", "Less", "Not", "Max", "Min")  # as x + (x < 0) * n does
PICKING = ("Gather", "GatherElements")  # with indices of one axis


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
        if node.op_type in PICKING and node.input[1] in of and known.get(node.input[0]):
            shape, axes = known[node.input[0]], [a.i for a in node.attribute if a.name == "axis"]
            extent, name = shape[axes[0] if axes else 0], of[node.input[1]]
            if extent > 0:
                found[name] = min(extent, found.get(name, extent))
    return found
