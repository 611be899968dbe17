# SPDX-License-Identifier: Apache-2.0
"""Copies where a state's new value, or a piece of it, cannot be written straight over the old one.

The planner writes the new value over the old, at the same address, by running all that read the old one
first. Here that is made possible: each state ends in a tensor that a node of its own writes, there is an
order in which every reader of an old value comes before the writer of the new one, and outputs are not read
from where an old value was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import LoopKind, Nest
from mmcc.ir.state import State
from mmcc.ir.traits import Alias
from mmcc.ops.movement import Expand
from mmcc.passes.split_states import split_states


def separate_states(graph: Graph, *, outputs_outside: bool = False) -> Graph:
    """The graph with a copy for each state that needs one, and for each output that is an old value.

    `outputs_outside`: outputs are in memory of the caller's, so that none is a state too.
    """
    if not graph.states:
        return graph
    graph = _copy_outputs(split_states(graph))
    taken = set(graph.output_names if outputs_outside else ())
    states: list[State] = []
    for state in graph.states:
        # the copy of another state's old value may have to wait for a copy of its own
        while state.end != state.begin and (state.end in taken or not _ordered(graph, [*states, state])):
            graph, end = _with_copy(graph, state.end, f"{state.begin}_next")
            state = replace(state, end=end)
        taken.add(state.end)
        states.append(state)
    return replace(graph, states=tuple(states))


def _with_copy(graph: Graph, name: str, hint: str) -> tuple[Graph, str]:
    """The graph with a node that copies a tensor, and the copy's name."""
    while hint in graph.tensors:
        hint += "_"
    tensor = replace(graph.tensors[name], name=hint)
    node = Node(Expand(tensor.shape), (name,), (hint,))
    return replace(graph, tensors=graph.tensors | {hint: tensor}, nodes=(*graph.nodes, node)), hint


def _views(graph: Graph, name: str) -> frozenset[str]:
    """A tensor and all that may be views of it."""
    seen, waiting = {name}, [name]
    while waiting:
        for node in graph.consumers[waiting.pop()]:
            in_it = node.op.traits.alias in (Alias.SAME, Alias.PART)
            if in_it and node.output not in seen:
                seen.add(node.output)
                waiting.append(node.output)
    return frozenset(seen)


def _copy_outputs(graph: Graph) -> Graph:
    """Outputs that are the old value of a state, or a view of it, become tensors of their own."""
    changed = {s.begin for s in graph.states if s.end != s.begin}
    old = frozenset[str]().union(*(_views(graph, name) for name in changed))
    if not old & graph.output_names:
        return graph
    copies: dict[str, str] = {}
    for name in dict.fromkeys(port.tensor for port in graph.outputs):
        if name in old:
            graph, copies[name] = _with_copy(graph, name, f"{name}_out")
    ports = tuple(replace(port, tensor=copies.get(port.tensor, port.tensor)) for port in graph.outputs)
    return replace(graph, outputs=ports)


def _ordered(graph: Graph, states: Sequence[State]) -> bool:
    """True if there is an order in which the new value of each state can be written over the old one."""
    number = {name: k for k, node in enumerate(graph.nodes) for name in node.outputs}
    before = {
        k: {number[name] for name in node.inputs if name in number} for k, node in enumerate(graph.nodes)
    }
    for state in states:
        if state.end == state.begin:
            continue
        if state.end not in number:
            return False  # an input, a constant or the old value of a state
        old, writer = _views(graph, state.begin), number[state.end]
        readers = {k for k, node in enumerate(graph.nodes) if not old.isdisjoint(node.inputs)}
        if writer in readers and not _reads_ahead(graph, graph.nodes[writer], state.begin, old):
            return False
        before[writer] |= readers - {writer}
    try:
        TopologicalSorter(before).prepare()
    except CycleError:
        return False
    return True


def _reads_ahead(graph: Graph, node: Node, begin: str, old: frozenset[str]) -> bool:
    """True if a node reads an old value only so that each element is read before its new one is written."""
    nest = nest_of(graph, node)
    reads = [k for k, access in enumerate(nest.reads) if node.inputs[access.operand] in old]
    direct = all(node.inputs[nest.reads[k].operand] == begin for k in reads)
    return direct and len(node.outputs) == 1 and all(_is_ahead(nest, k) for k in reads)


def _is_ahead(nest: Nest, read: int) -> bool:
    """True if each element is read before the one at its place is written."""
    if nest.is_elementwise_in(read):
        return True
    if nest.row_order is not LoopKind.FORWARD or nest.reads[read].shape != nest.write.shape:
        return False
    needed = (nest.rows_needed(read, row) for row in range(nest.write.shape[0]))
    return all(span.lo > row for row, span in enumerate(needed) if len(span))
