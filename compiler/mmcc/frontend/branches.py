# SPDX-License-Identifier: Apache-2.0
"""ONNX If whose condition is known: the branch that is taken stands in its place."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from dataclasses import replace

from onnx import GraphProto, NodeProto

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.convert import Import, add_constants
from mmcc.frontend.order import ordered, unique
from mmcc.frontend.problems import bad_model, located, unsupported
from mmcc.frontend.reads import reads
from mmcc.frontend.schema import checked_node, domain_of
from mmcc.frontend.value import Value

MAX_DEPTH = 16  # of branches within branches

Convert = Callable[[Import, Where, NodeProto], None]


def is_branch(node: NodeProto) -> bool:
    """True of an If."""
    return node.op_type == "If" and not domain_of(node)


def take_branch(state: Import, where: Where, node: NodeProto, convert: Convert) -> CompileError | None:
    """Convert the nodes of the branch that the condition chooses; what is wrong, if the If itself is.

    Names within a branch are its own: they end with it, and another branch may have the same.
    """
    try:
        graph = _chosen(state, node)
    except CompileError as error:
        return located(error, where)
    problems: list[CompileError] = []
    constants = {tensor.name: tensor for tensor in unique("constant", graph.initializer, problems)}
    inside = [(Where(where.model, where.node, n.op_type, n.name), n) for n in graph.node]
    steps = ordered(inside, {*state.values, *state.opaque, *constants}, problems)
    state.problems.found += [located(problem, where) for problem in problems]
    results = [info.name for info in graph.output]
    read = {name for _, inner in steps for name in reads(inner)}
    own: dict[str, Value] = {}
    within = replace(
        state,
        values=ChainMap(own, state.values),
        wanted=state.wanted | read | {*results},
        depth=state.depth + 1,
    )
    add_constants(within, constants, read | {*results})
    for place, inner in steps:
        convert(within, place, inner)
    state.probed = within.probed
    for outer, inner in zip(node.output, results, strict=True):
        if outer and inner in within.values:
            state.values[outer] = within.values[inner]
            if inner in own:  # not a value from around the branch
                state.build.titles[within.values[inner].tensor] = outer
    missing = [name for name in results if name not in within.values]
    if missing and not state.problems.found and not state.problems.unknown:
        what = f'output "{printable(missing[0])}" of the branch is not defined'
        return located(bad_model("MM102", what), where)
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
    if state.depth >= MAX_DEPTH:
        raise bad_model("MM105", f"branches are nested more than {MAX_DEPTH} deep")
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
