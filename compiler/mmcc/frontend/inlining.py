# SPDX-License-Identifier: Apache-2.0
"""The nodes of a subgraph, converted in the place of the node that has it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace

from onnx import GraphProto, NodeProto

from mmcc.errors import CompileError, Where, printable
from mmcc.frontend.convert import Import, add_constants
from mmcc.frontend.order import ordered, unique
from mmcc.frontend.problems import bad_model, located
from mmcc.frontend.reads import reads
from mmcc.frontend.value import Members, Value

MAX_DEPTH = 16  # of subgraphs within subgraphs

Convert = Callable[[Import, Where, NodeProto], None]


def inline(
    state: Import, where: Where, graph: GraphProto, given: Mapping[str, Value], convert: Convert
) -> tuple[Value | None, ...]:
    """`inline_all` of a subgraph that takes and makes no sequences."""
    found: list[Value | None] = []
    for info, made in zip(graph.output, inline_all(state, where, graph, given, convert), strict=True):
        if isinstance(made, tuple):
            what = f'output "{printable(info.name)}" of the subgraph is a sequence, not a tensor'
            raise bad_model("MM104", what)
        found.append(made)
    return tuple(found)


def inline_all(
    state: Import, where: Where, graph: GraphProto, given: Mapping[str, Value | Members], convert: Convert
) -> tuple[Value | Members | None, ...]:
    """Convert the nodes of a subgraph whose inputs are `given`; its outputs, None for those that are wrong.

    Names within it are its own: they end with it, and another subgraph may have the same. Problems are added
    to those of the import. CompileError if subgraphs are nested too deep.
    """
    if state.depth >= MAX_DEPTH:
        raise bad_model("MM105", f"branches are nested more than {MAX_DEPTH} deep")
    problems: list[CompileError] = []
    constants = {tensor.name: tensor for tensor in unique("constant", graph.initializer, problems)}
    around = {*state.values, *state.sequences}
    inside = [(Where(where.model, where.node, n.op_type, n.name), n) for n in graph.node]
    steps = ordered(inside, {*around, *state.opaque, *constants, *given}, problems, state.lost)
    state.problems.found += [located(problem, where) for problem in problems]
    results = [info.name for info in graph.output]
    read = {name for _, inner in steps for name in reads(inner)}
    within = replace(
        state,
        values=ChainMap({n: v for n, v in given.items() if not isinstance(v, tuple)}, state.values),
        sequences={n: v for n, v in state.sequences.items() if n not in given}
        | {n: v for n, v in given.items() if isinstance(v, tuple)},
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
