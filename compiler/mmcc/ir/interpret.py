# SPDX-License-Identifier: Apache-2.0
"""Run a Graph in numpy, node by node, by the meaning each op states; slow and exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph

Array = NDArray[Any]


def evaluate_tensors(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor's elements, by name; `inputs` are in the layout of the graph's tensors."""
    arrays: dict[str, Array] = {**graph.constants, **inputs}
    for node in graph.nodes:
        results = node.op.reference(*(arrays[name] for name in node.inputs))
        for name, made in zip(node.outputs, results, strict=True):
            tensor = graph.tensors[name]
            assert made.shape == tensor.shape, f"{node.op} made {made.shape}, not {tensor.shape}"
            assert made.dtype == tensor.dtype.numpy, f"{node.op} made {made.dtype}, not {tensor.dtype}"
            arrays[name] = made
    return arrays


def evaluate(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The model's outputs for its inputs, both by ONNX name and in ONNX's shape and type."""
    given = {p.tensor: p.to_c(np.asarray(inputs[p.onnx_name]), graph.tensors[p.tensor]) for p in graph.inputs}
    arrays = evaluate_tensors(graph, given)
    return {p.onnx_name: p.from_c(arrays[p.tensor], graph.tensors[p.tensor]) for p in graph.outputs}
