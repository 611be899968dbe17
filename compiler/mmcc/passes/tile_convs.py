# SPDX-License-Identifier: Apache-2.0
"""Inverted bottlenecks made tile by tile: what is expanded exists for one pixel of the result only.

That is the widest tensor of such nets. A ring of it holds the window's rows over all columns; the tile holds
the window's rows and columns, and makes the rows again for each row of the result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mmcc.ir.graph import Graph, Node
from mmcc.ops.conv import ConvInt8
from mmcc.ops.tiled_conv import POINTWISE, TiledConvInt8
from mmcc.passes.draft import Draft, sole_reader

Chain = tuple[Node, Node, Node]


def chains(graph: Graph) -> Mapping[str, Chain]:
    """By result, the three convolutions that `TiledConvInt8` can make in one: of each only the next reads.

    Where one's last is the next one's first, as in a net of separable convolutions, the former has it.
    """
    found: dict[str, Chain] = {}
    for node in graph.nodes:
        window = _next(graph, node) if _is_pointwise(node) and node.output not in found else None
        project = _next(graph, window) if window is not None and not _is_pointwise(window) else None
        if window is not None and project is not None and _is_pointwise(project):
            found[project.output] = (node, window, project)
    return found


def tiled(graph: Graph, results: Collection[str]) -> Graph:
    """The graph with some of its `chains`, given by their results, as one node each."""
    every = chains(graph)
    some = {name: every[name] for name in results}
    inside = {node.output for chain in some.values() for node in chain[:2]}
    draft = Draft(graph)
    for node in graph.nodes:
        if node.output in inside:
            continue
        if node.output not in some:
            draft.keep(node)
            continue
        expand, window, project = (_conv(each) for each in some[node.output])
        parts = some[node.output]
        operands = [parts[0].inputs[0], *(name for part in parts for name in part.inputs[1:])]
        where = tuple(place for part in parts for place in part.where)
        quant = graph.tensors[node.output].quant
        draft.write(TiledConvInt8(expand, window, project), operands, node.output, where, quant)
    return draft.graph()


def _conv(node: Node) -> ConvInt8:
    assert isinstance(node.op, ConvInt8)
    return node.op


def _is_pointwise(node: Node) -> bool:
    return isinstance(node.op, ConvInt8) and node.op.window == POINTWISE and node.op.groups == 1


def _next(graph: Graph, node: Node) -> Node | None:
    """The convolution that alone reads a node's result, with weights that do not change."""
    reader = sole_reader(graph, node.output)
    if reader is None or not isinstance(reader.op, ConvInt8) or reader.inputs[0] != node.output:
        return None
    both = (*node.inputs[1:], *reader.inputs[1:])
    return reader if all(graph.is_constant(name) for name in both) else None
