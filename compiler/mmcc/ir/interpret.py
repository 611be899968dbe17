# SPDX-License-Identifier: Apache-2.0
"""Run a Graph in numpy, node by node, by the meaning each op states; slow and exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph
from mmcc.ir.module import Module

Array = NDArray[Any]


def evaluate_tensors(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor's elements, by name; `inputs` are in the layout of the graph's tensors.

    States that `inputs` do not give have their initial values.
    """
    initial = {state.begin: state.initial for state in graph.states}
    arrays: dict[str, Array] = {**graph.constants, **initial, **inputs}
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


class Interpreter:
    """A module whose states live from call to call, as in the C that is generated for it."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._graphs = {entry.name: entry.graph for entry in module.entries}
        self.reset()

    def reset(self) -> None:
        """All states are as they were before the first call."""
        self.states: dict[str, Array] = {state.begin: state.initial for state in self._module.states}

    def call(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One call of an entry: all its tensors by name; `inputs` are in the layout of its tensors."""
        graph = self._graphs[entry]
        begins = {state.begin: self.states[state.begin] for state in graph.states}
        arrays = evaluate_tensors(graph, {**begins, **inputs})
        self.states |= {state.begin: arrays[state.end] for state in graph.states}
        return arrays
