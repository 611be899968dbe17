# SPDX-License-Identifier: Apache-2.0
"""Integer inputs that are indices: made-up ones are to be inside, since ONNX Runtime takes no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mmcc.ir.ports import Port
from mmcc.verification.samples import Sample

PASSING = ("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand")
PICKING = ("Gather", "GatherElements")  # with indices of one axis


def index_extents(model: Path) -> dict[str, int]:
    """By input of the model, among how many its values pick one, if they do."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(model, load_external_data=False)).graph
    known = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        known.setdefault(value.name, tuple(d.dim_value for d in value.type.tensor_type.shape.dim))
    of = {value.name: value.name for value in graph.input}  # which input a tensor has the values of
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in PASSING and node.input and node.input[0] in of:
            of |= dict.fromkeys(node.output, of[node.input[0]])
        if node.op_type in PICKING and node.input[1] in of and known.get(node.input[0]):
            shape, axes = known[node.input[0]], [a.i for a in node.attribute if a.name == "axis"]
            extent, name = shape[axes[0] if axes else 0], of[node.input[1]]
            if extent > 0:
                found[name] = min(extent, found.get(name, extent))
    return found


def picked_inside(ports: Sequence[Port], extents: Mapping[str, int], samples: list[Sample]) -> list[Sample]:
    """The samples with indices counted from 0 within what they pick from."""

    def inside(port: Port, array: Any) -> Any:
        extent = extents.get(port.onnx_name)
        return array if extent is None else np.mod(array, extent).astype(array.dtype)

    return [[inside(port, array) for port, array in zip(ports, sample, strict=True)] for sample in samples]
