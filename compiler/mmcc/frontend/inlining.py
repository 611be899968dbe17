# SPDX-License-Identifier: Apache-2.0
"""The nodes of a subgraph, converted in the place of the node that has it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Container, Mapping
from dataclasses import replace

import numpy as np
from onnx import GraphProto, NodeProto, helper

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.convert import Import, add_constants
from mmcc.frontend.order import ordered, unique
from mmcc.frontend.problems import bad_model, located
from mmcc.frontend.reads import reads
from mmcc.frontend.value import Members, Value

MAX_DEPTH = 16  # of subgraphs within subgraphs

Convert = Callable[[Import, Where, NodeProto], None]


class Stopped(Exception):
    """A value that is needed could not be made; what is wrong is among the problems."""


class _Names:
    """The names that any of some containers has; they may be many, and are not copied."""

    def __init__(self, *parts: Container[str]) -> None:
        self._parts = parts

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(name in part for part in self._parts)


def alone(state: Import) -> Import:
    """The import for a graph of mmcc's own: the model's names are not its own, and may be the same."""
    return replace(state, values={}, sequences={}, opaque=set(), lost=set())


def result_of_graph(
    state: Import, where: Where, graph: GraphProto, given: Mapping[str, Value], convert: Convert
) -> Value:
    """The one result of a graph that reads nothing but what it is given."""
    (value,) = inline(alone(state), where, graph, given, convert)
    if value is None:
        raise Stopped
    return value


def result_of(
    state: Import, where: Where, node: NodeProto, given: Mapping[str, Value], convert: Convert
) -> Value:
    """The result of one node more."""
    (result,) = node.output
    graph = helper.make_graph([node], "", [], [helper.make_empty_tensor_value_info(result)])
    return result_of_graph(state, where, graph, given, convert)


def with_axis(
    state: Import, where: Where, x: Value, axis: int, convert: Convert, *, op: str = "Unsqueeze"
) -> Value:
    """A new axis of extent 1; or with `op` Squeeze without it. As a node: what follows rows sees it."""
    if state.source.opsets[""] < 13:
        return result_of(state, where, helper.make_node(op, ["x"], ["row"], axes=[axis]), {"x": x}, convert)
    given = {"x": x, "axes": state.build.constant(np.array([axis], np.int64), "axes")}
    return result_of(state, where, helper.make_node(op, [*given], ["row"]), given, convert)


def inline(
    state: Import,
    where: Where,
    graph: GraphProto,
    given: Mapping[str, Value],
    convert: Convert,
    own: dict[str, Value] | None = None,
) -> tuple[Value | None, ...]:
    """`inline_all` of a subgraph that takes and makes no sequences."""
    found: list[Value | None] = []
    made_all = inline_all(state, where, graph, given, convert, own)
    for info, made in zip(graph.output, made_all, strict=True):
        if isinstance(made, tuple):
            what = f'output "{printable(info.name)}" of the subgraph is a sequence, not a tensor'
            raise bad_model("MM104", what)
        found.append(made)
    return tuple(found)


def inline_all(
    state: Import,
    where: Where,
    graph: GraphProto,
    given: Mapping[str, Value | Members],
    convert: Convert,
    own: dict[str, Value] | None = None,
) -> tuple[Value | Members | None, ...]:
    """Convert the nodes of a subgraph whose inputs are `given`; its outputs, None for those that are wrong.

    Names within it are its own: they end with it, and another subgraph may have the same; `own` is given
    what they stand for. Problems are added to those of the import. CompileError if subgraphs are nested too
    deep.
    """
    if state.depth >= MAX_DEPTH:
        raise bad_model("MM105", f"branches are nested more than {MAX_DEPTH} deep")
    problems: list[CompileError] = []
    constants = {tensor.name: tensor for tensor in unique("constant", graph.initializer, problems)}
    inside = [(Where(where.model, where.node, n.op_type, n.name), n) for n in graph.node]
    known = _Names(state.values, state.sequences, state.opaque, constants, given)
    steps = ordered(inside, known, problems, state.lost)
    state.problems.found += [located(problem, where) for problem in problems]
    results = [info.name for info in graph.output]
    read = {name for _, inner in steps for name in reads(inner)}
    tensors = {} if own is None else own
    tensors |= {n: v for n, v in given.items() if not isinstance(v, tuple)}
    around = state.sequences
    if any(name in around for name in tensors):  # which have the name now
        around = {name: members for name, members in around.items() if name not in tensors}
    within = replace(
        state,
        values=ChainMap(tensors, state.values),
        sequences=ChainMap({n: v for n, v in given.items() if isinstance(v, tuple)}, around),
        wanted=state.wanted | read | {*results},
        depth=state.depth + 1,
    )
    add_constants(within, constants, read | {*results})
    for place, inner in steps:
        convert(within, place, inner)
    state.probed = within.probed
    missing = [name for name in results if not within.knows(name)]
    if missing and not state.problems.found and not state.problems.unknown:
        what = f'output "{printable(missing[0])}" of the subgraph is not defined'
        raise bad_model("MM102", what)
    return tuple(within.sequences.get(name, within.values.get(name)) for name in results)
