# SPDX-License-Identifier: Apache-2.0
"""What `mmcc check` and `mmcc ops` tell: can a model be compiled, and which operators can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, Progress
from mmcc.frontend import supported_operators
from mmcc.ir.graph import Graph
from mmcc.ir.ports import Port
from mmcc.report.model import count_macs, count_params


def check_model(
    model: Path,
    dims: dict[str, int],
    bind: dict[str, Any],
    progress: Progress,
    states: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Import and optimize without planning; raises CompileError with all that is unsupported at once."""
    graph = load_graph(model, CompileOptions(dims=dims, bind=bind, states=states or {}), progress)
    operators = Counter(type(node.op).__name__ for node in graph.nodes)
    return {
        "ok": True,
        "name": graph.name,
        "macs": count_macs(graph),
        "params": count_params(graph),
        "inputs": [_line(graph, port) for port in graph.inputs],
        "outputs": [_line(graph, port) for port in graph.outputs],
        "states": [
            f"{_line(graph, graph.origins[state.begin])}, from {ascii((states or {})[name])[1:-1]}"
            for state in graph.states
            if (name := graph.origins[state.begin].onnx_name) in (states or {})
        ],
        "operators": dict(operators.most_common()),
        "warnings": list(graph.warnings),
    }


def _line(graph: Graph, port: Port) -> str:
    tensor = graph.tensors[port.tensor]
    shape = "x".join(map(str, port.onnx_shape)) or "scalar"
    stored = f"{tensor.dtype.name} {'x'.join(map(str, tensor.shape)) or 'scalar'}"
    return f"{ascii(port.onnx_name)[1:-1]}: {port.model_type} {shape}, in C {stored}"


def operator_rows() -> list[dict[str, str]]:
    """Name (with its domain), versions and notes of every operator that can be imported."""
    return [
        {
            "name": f"{row.domain}.{row.op}" if row.domain else row.op,
            "versions": f"{row.since} and newer",
            "notes": row.notes,
        }
        for row in supported_operators()
    ]
