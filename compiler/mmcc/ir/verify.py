# SPDX-License-Identifier: Apache-2.0
"""The graph's checker: what every pass must leave true."""

from __future__ import annotations

from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import ShapeError
from mmcc.ir.types import DType, Tensor


def check_graph(graph: Graph) -> list[str]:
    """What is wrong with a graph, one sentence each; empty for a sound one."""
    wrong = [f"{t} is listed as %{name}" for name, t in graph.tensors.items() if t.name != name]
    wrong += _check_constants(graph)
    written = set(graph.constants)
    for port in graph.inputs:
        if port.tensor in written:
            wrong.append(f"input %{port.tensor} is a constant or an input twice")
        written.add(port.tensor)
    wrong += [f"input %{name} is not among the tensors" for name in graph.input_names - graph.tensors.keys()]
    for index, node in enumerate(graph.nodes):
        wrong += [f"node {index} ({node.op}): {text}" for text in _check_node(graph, node, written)]
        written.add(node.output)
    for port in graph.outputs:
        if port.tensor not in written:
            wrong.append(f"output %{port.tensor} is never written")
    unused = graph.tensors.keys() - written
    return wrong + [f"tensor %{name} is never written" for name in sorted(unused)]


def _check_constants(graph: Graph) -> list[str]:
    wrong: list[str] = []
    for name, data in graph.constants.items():
        tensor = graph.tensors.get(name)
        if tensor is None:
            wrong.append(f"constant %{name} is not among the tensors")
        elif data.shape != tensor.shape or data.dtype != tensor.dtype.numpy:
            wrong.append(f"constant {tensor} has data {data.dtype}{list(data.shape)}")
    return wrong


def _check_node(graph: Graph, node: Node, written: set[str]) -> list[str]:
    missing = [name for name in (*node.inputs, node.output) if name not in graph.tensors]
    if missing:
        return [f"%{name} is not among the tensors" for name in missing]
    wrong = [f"reads %{name} before it is written" for name in node.inputs if name not in written]
    if node.output in written:
        wrong.append(f"%{node.output} is written twice, or is an input or a constant")
    output = graph.tensors[node.output]
    try:
        shape, dtype = node.op.result(*graph.operands(node))
    except ShapeError as error:
        return [*wrong, str(error)]
    if (shape, dtype) != (output.shape, output.dtype):
        wrong.append(f"writes {output} but the op gives {dtype.name.lower()}{list(shape)}")
    return wrong


def check_final(graph: Graph) -> list[str]:
    """What more must hold of the form that the planner takes: no quantized constant is left unresolved."""
    wrong = check_graph(graph)
    wrong += [f"{node.op} of %{node.inputs[0]} has no kernel" for node in graph.nodes if not node.op.kernel]
    unmarked = [
        graph.tensors[node.output] for node in graph.nodes if _lacks_quant(graph.tensors[node.output])
    ]
    return wrong + [f"{tensor} does not say what its integers mean" for tensor in unmarked]


def _lacks_quant(tensor: Tensor) -> bool:
    return tensor.dtype is DType.I8 and tensor.quant is None
