# SPDX-License-Identifier: Apache-2.0
"""ONNX If whose condition is known: the branch that is taken stands in its place."""

from __future__ import annotations

from onnx import GraphProto, NodeProto

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.convert import Import
from mmcc.frontend.inlining import Convert, inline
from mmcc.frontend.problems import bad_model, located, unsupported
from mmcc.frontend.reads import reads
from mmcc.frontend.schema import checked_node, domain_of


def is_branch(node: NodeProto) -> bool:
    """True of an If."""
    return node.op_type == "If" and not domain_of(node)


def take_branch(state: Import, where: Where, node: NodeProto, convert: Convert) -> CompileError | None:
    """Convert the nodes of the branch that the condition chooses; what is wrong, if the If itself is."""
    try:
        graph = _chosen(state, node)
        made = inline(state, where, graph, {}, convert)
    except CompileError as error:
        return located(error, where)
    around = {value.tensor for name, value in state.values.items() if name in {o.name for o in graph.output}}
    for name, value in zip(node.output, made, strict=True):
        if name and value is not None:
            state.values[name] = value
            if value.tensor not in around:
                state.build.titles[value.tensor] = name
    return None


def _chosen(state: Import, node: NodeProto) -> GraphProto:
    """The branch for the condition's value; an error if that is not known, or if there is no such branch."""
    _, attributes = checked_node(node, state.source.opsets[""])
    condition = state.values[node.input[0]] if node.input and node.input[0] else None
    if condition is None:
        raise bad_model("MM103", "operand 0, the condition, is missing")
    if not state.build.is_constant(condition.tensor):
        raise _runtime_condition(state, node)
    if condition.size != 1:
        raise bad_model("MM104", f"the condition has {condition.size} elements, not 1")
    wanted = "then_branch" if state.build.array(condition).any() else "else_branch"
    graph = attributes[wanted].g
    if len(graph.output) != len(node.output) or graph.input or graph.sparse_initializer:
        raise bad_model("MM103", f"{wanted} does not fit the If")
    return graph


def _runtime_condition(state: Import, node: NodeProto) -> CompileError:
    """Which inputs the condition depends on: binding them makes it constant."""
    makers = {name: inner for _, inner in state.source.nodes for name in inner.output}
    inputs = {info.name for info in state.source.inputs}
    queue, seen = [node.input[0]], {node.input[0]}
    for name in queue:  # grows while we walk it
        fresh = [n for n in (reads(makers[name]) if name in makers else ()) if n and n not in seen]
        seen.update(fresh)
        queue += fresh
    decides = [name for name in queue if name in inputs]
    options = " ".join(f"--bind {printable(name)}=VALUE" for name in decides)
    hint = f"{options}, which makes the input a constant" if decides else ""
    return unsupported("an If whose condition is known only at run time", hint)
