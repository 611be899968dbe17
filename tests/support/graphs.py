# SPDX-License-Identifier: Apache-2.0
"""Small graphs built by hand, and what a graph computes: shared by the tests of the passes."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcc.errors import Where
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.interpret import evaluate
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor
from mmcc.ir.verify import check_graph
from mmcc.ops import catalog  # noqa: F401
from mmcc.ops.quantize import Dequantize, DequantizeConstant, Quantize


class Builder:
    """Nodes in order, each output named by the caller or after its op."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.inputs: list[Port] = []

    def input(self, name: str, *shape: int, dtype: ElementType = ElementType.F32) -> str:
        self.tensors[name] = Tensor(name, shape, dtype)
        self.inputs.append(Port(name, name, shape, dtype, tuple(range(len(shape)))))
        return name

    def const(self, data: Any, name: str = "") -> str:
        data = np.asarray(data)
        if data.dtype == np.float64:
            data = data.astype(np.float32)
        name = name or f"c{len(self.constants)}"
        self.constants[name] = data
        self.tensors[name] = Tensor(name, data.shape, ElementType.of(data))
        return name

    def op(self, op: Any, *inputs: str, name: str = "") -> str:
        name = name or f"t{len(self.nodes)}"
        ((shape, dtype),) = op.results(*(self.tensors[i] for i in inputs))
        self.tensors[name] = Tensor(name, shape, dtype)
        where = Where("test", len(self.nodes), type(op).__name__, name)
        self.nodes.append(Node(op, inputs, (name,), (where,)))
        return name

    def quantize(
        self, x: str, scale: float, zero: int = 0, dtype: ElementType = ElementType.I8, name: str = ""
    ) -> str:
        """Quantize and Dequantize with one scale."""
        q = self.op(Quantize(scale, zero, dtype), x, name=f"{name}_q" if name else "")
        return self.op(Dequantize(scale, zero), q, name=name)

    def dequantized(self, data: Any, scales: Any, zeros: Any = 0, axis: int | None = None) -> str:
        scales, zeros = np.atleast_1d(scales), np.atleast_1d(zeros)
        zeros = np.broadcast_to(zeros, scales.shape)
        op = DequantizeConstant(tuple(map(float, scales)), tuple(map(int, zeros)), axis)
        return self.op(op, self.const(data))

    def graph(self, *outputs: str) -> Graph:
        ports = tuple(
            Port(n, n, t.shape, t.dtype, tuple(range(len(t.shape))))
            for n, t in ((name, self.tensors[name]) for name in outputs)
        )
        graph = Graph("g", self.tensors, self.constants, tuple(self.nodes), tuple(self.inputs), ports)
        assert check_graph(graph) == []
        return graph


def run(graph: Graph, *inputs: np.ndarray) -> list[np.ndarray]:
    """What the model returns, in ONNX's types, for one sample in ONNX's types."""
    names = [port.onnx_name for port in graph.inputs]
    outputs = evaluate(graph, dict(zip(names, inputs, strict=True)))
    return [outputs[port.onnx_name] for port in graph.outputs]


def ops(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph.nodes]
