# SPDX-License-Identifier: Apache-2.0
"""The graph's checker: what every pass must leave true."""

from __future__ import annotations

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import ShapeError
from mmcc.ir.types import Tensor


def check_graph(graph: Graph) -> list[str]:
    """What is wrong with a graph, one sentence each; empty for a sound one."""
    wrong = [f"{t} is listed as %{name}" for name, t in graph.tensors.items() if t.name != name]
    wrong += _check_constants(graph)
    written = set(graph.constants)
    for port in graph.inputs:
        if port.tensor in written:
            wrong.append(f"input %{port.tensor} is a constant or an input twice")
        written.add(port.tensor)
    wrong += _check_states(graph, written)
    written.update(state.begin for state in graph.states)
    wrong += [f"input %{name} is not among the tensors" for name in graph.input_names - graph.tensors.keys()]
    for index, node in enumerate(graph.nodes):
        wrong += [f"node {index} ({node.op}): {text}" for text in _check_node(graph, node, written)]
        written.update(node.outputs)
    wrong += _check_outputs(graph, written)
    for state in graph.states:
        if state.end not in written:
            wrong.append(f"the end %{state.end} of state %{state.begin} is never written")
    unused = graph.tensors.keys() - written
    return wrong + [f"tensor %{name} is never written" for name in sorted(unused)]


def _check_outputs(graph: Graph, written: set[str]) -> list[str]:
    """Each output has an address of its own, which its caller may choose, and a node that writes there."""
    wrong: list[str] = []
    names = [port.tensor for port in graph.outputs]
    for k, name in enumerate(names):
        if name not in written:
            wrong.append(f"output %{name} is never written")
        if name in graph.constants or name in graph.input_names or name in names[:k]:
            wrong.append(f"output %{name} is a constant, an input or an output twice: it must be a copy")
    return wrong


def _check_constants(graph: Graph) -> list[str]:
    wrong: list[str] = []
    for name, data in graph.constants.items():
        tensor = graph.tensors.get(name)
        if tensor is None:
            wrong.append(f"constant %{name} is not among the tensors")
        elif data.shape != tensor.shape or data.dtype != tensor.dtype.numpy:
            wrong.append(f"constant {tensor} has data {data.dtype}{list(data.shape)}")
    return wrong


def _check_states(graph: Graph, written: set[str]) -> list[str]:
    wrong: list[str] = []
    begins = [state.begin for state in graph.states]
    for k, state in enumerate(graph.states):
        missing = [name for name in (state.begin, state.end) if name not in graph.tensors]
        wrong += [f"%{name} of a state is not among the tensors" for name in missing]
        if state.begin in written or state.begin in begins[:k]:
            wrong.append(f"state %{state.begin} is an input, a constant or a state twice")
        if missing:
            continue
        begin, end = graph.tensors[state.begin], graph.tensors[state.end]
        if (begin.shape, begin.dtype, begin.quant) != (end.shape, end.dtype, end.quant):
            wrong.append(f"state {begin} ends as {end}, which is not alike")
        if (state.initial.shape, state.initial.dtype) != (begin.shape, begin.dtype.numpy):
            wrong.append(f"state {begin} begins with {state.initial.dtype}{list(state.initial.shape)}")
    return wrong


def _check_node(graph: Graph, node: Node, written: set[str]) -> list[str]:
    missing = [name for name in (*node.inputs, *node.outputs) if name not in graph.tensors]
    if missing:
        return [f"%{name} is not among the tensors" for name in missing]
    wrong = [f"reads %{name} before it is written" for name in node.inputs if name not in written]
    for k, name in enumerate(node.outputs):
        if name in written or name in node.outputs[:k]:
            wrong.append(f"%{name} is written twice, or is an input or a constant")
    try:
        results = node.op.results(*graph.operands(node))
    except ShapeError as error:
        return [*wrong, str(error)]
    if len(results) != len(node.outputs):
        return [*wrong, f"has {len(node.outputs)} outputs but the op gives {len(results)}"]
    for name, (shape, dtype) in zip(node.outputs, results, strict=True):
        output = graph.tensors[name]
        if (shape, dtype) != (output.shape, output.dtype):
            wrong.append(f"writes {output} but the op gives {dtype.name}{list(shape)}")
    return wrong


def check_final(graph: Graph) -> list[str]:
    """What more must hold of the form that the planner takes: no quantized constant is left unresolved."""
    wrong = check_graph(graph)
    wrong += [f"{node.op} of %{node.inputs[0]} has no kernel" for node in graph.nodes if not node.op.kernel]
    written = [graph.tensors[name] for node in graph.nodes for name in node.outputs]
    unmarked = [tensor for tensor in written if _lacks_quant(tensor)]
    return wrong + [f"{tensor} does not say what its integers mean" for tensor in unmarked]


def _lacks_quant(tensor: Tensor) -> bool:
    return tensor.dtype == ElementType.I8 and tensor.quant is None
