# SPDX-License-Identifier: Apache-2.0
"""ONNX If: the branch that is taken stands in its place, or both do, with a choice of their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import GraphProto, NodeProto, helper

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.binding_hint import binding_hint
from mmcc.frontend.convert import Import
from mmcc.frontend.inlining import Convert, alone, inline, inline_all
from mmcc.frontend.problems import CUT_OFF, Problems, bad_model, located, unsupported
from mmcc.frontend.schema import checked_node, domain_of
from mmcc.frontend.sequences import only_tensors, operand
from mmcc.frontend.value import Members, Value

# A condition of one element, of any rank, chooses results of any rank.
CHOICE = helper.make_graph(
    [
        helper.make_node("Reshape", ["condition", "scalar"], ["one"]),
        helper.make_node("Where", ["one", "then", "else"], ["chosen"]),
    ],
    "choice",
    [],
    [helper.make_empty_tensor_value_info("chosen")],
)


def is_branch(node: NodeProto) -> bool:
    """True of an If."""
    return node.op_type == "If" and not domain_of(node)


def take_branch(state: Import, where: Where, node: NodeProto, convert: Convert) -> CompileError | None:
    """Convert the nodes of the branch that the condition chooses; what is wrong, if the If itself is.

    Where the condition is known only at run time both branches are computed, and the result is chosen.
    """
    try:
        condition, branches = _parts(state, node)
        if len(branches) == 1:
            made: Sequence[Value | Members | None] = inline_all(state, where, branches[0], {}, convert)
            results = {info.name for info in branches[0].output}
        else:
            made, results = _both(state, where, node, (condition, branches), convert), set[str]()
    except CompileError as error:
        return located(error, where)
    around = {value.tensor for name, value in state.values.items() if name in results}
    for name, value in zip(node.output, made, strict=True):
        if not name or value is None:
            continue
        if isinstance(value, tuple):
            state.sequences[name] = value
            continue
        state.values[name] = value
        if value.tensor not in around:
            state.build.titles[value.tensor] = name
    return None


def _parts(state: Import, node: NodeProto) -> tuple[Value, list[GraphProto]]:
    """The condition, and the branch that it chooses, or both where it is not known, that for True first.

    An error if one of these fits no If.
    """
    _, attributes = checked_node(node, state.source.opsets[""])
    if not node.input or not node.input[0]:
        raise bad_model("MM103", "operand 0, the condition, is missing")
    (condition,) = only_tensors([operand(state, node.input[0])])
    if condition.size != 1:
        raise bad_model("MM104", f"the condition has {condition.size} elements, not 1")
    names = ["then_branch", "else_branch"]
    if state.build.is_constant(condition.tensor):
        names = names[:1] if state.build.array(condition).any() else names[1:]
    branches = [attributes[name].g for name in names]
    for name, graph in zip(names, branches, strict=True):
        if len(graph.output) != len(node.output) or graph.input or graph.sparse_initializer:
            raise bad_model("MM103", f"{name} does not fit the If")
    return condition, branches


def _both(
    state: Import,
    where: Where,
    node: NodeProto,
    parts: tuple[Value, list[GraphProto]],
    convert: Convert,
) -> list[Value | None]:
    """Convert both branches, and choose each result by the condition, elements of which there is one."""
    condition, branches = parts
    trial = replace(state, problems=Problems())
    before = len(state.build.nodes)
    made = [inline_all(trial, where, graph, {}, convert) for graph in branches]
    if trial.problems.found or trial.problems.unknown:
        why = f"mmcc cannot compute both of its branches: {_first_of(trial.problems)}"
        raise _runtime_condition(state, node, why)
    counts = len(state.build.nodes) - before
    scalar = state.build.constant(np.zeros(0, np.int64), "scalar")
    results: list[Value | None] = []
    for name, one, other in zip(node.output, *made, strict=True):
        if not name or name not in state.wanted or one is None or other is None:
            results.append(None)
            continue
        if isinstance(one, tuple) or isinstance(other, tuple):
            raise _runtime_condition(state, node, f'"{printable(name)}" is a sequence')
        if one.dtype != other.dtype:
            types = f"{one.dtype.name} and {other.dtype.name}"
            raise bad_model("MM104", f'the branches of the If make "{printable(name)}" of types {types}')
        if one.shape != other.shape:
            shapes = f"{list(one.shape)} and {list(other.shape)}"
            raise _runtime_condition(state, node, f'its branches make "{printable(name)}" of shapes {shapes}')
        given = {"condition": condition, "scalar": scalar, "then": one, "else": other}
        (chosen,) = inline(alone(trial), where, CHOICE, given, convert)
        if trial.problems.found or trial.problems.unknown:
            raise _runtime_condition(state, node, f'"{printable(name)}" is of a type that cannot be chosen')
        results.append(chosen)
    if counts:
        hint = binding_hint(state, node.input[0])
        state.build.where = (where,)
        what = f"both branches of the If, {counts} node{'s' if counts > 1 else ''}, are computed in every run"
        way_out = f"; {hint}, leaves one of them" if hint else ""
        state.build.warn(f"{what}, since its condition is known only at run time{way_out}")
    return results


def _first_of(problems: Problems) -> str:
    """One thing that is wrong with a branch."""
    for _, op in sorted(problems.unknown):
        return f"{printable(op, 60)} is not supported"
    error = problems.found[0]
    return (f"{printable(error.at[0].op, 60)}: " if error.at else "") + error.message


def _runtime_condition(state: Import, node: NodeProto, why: str) -> CompileError:
    """The error of an If that cannot be converted unless its condition is known."""
    what = f"an If whose condition is known only at run time: {why}"
    return unsupported(what, binding_hint(state, node.input[0]) or CUT_OFF)
