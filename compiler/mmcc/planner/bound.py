"""Bytes that no layout and no order can do without: what is alive if views and copies cost nothing.

A value is what an input holds or a node computes. Whatever is a view and whatever is a copy, its bytes
exist at least once from when it is made until its last use, directly or as a part of something else.
"""

from __future__ import annotations

from collections.abc import Mapping

from mmcc.ir.graph import Graph
from mmcc.ir.plan import BufferKind
from mmcc.ops.movement import Concat, Reshape, Slice, Transpose
from mmcc.planner.model import MemoryModel, Root, Unit
from mmcc.planner.order import best_order
from mmcc.planner.overlap import Distance
from mmcc.planner.request import PlanRequest


def layout_bound(
    graph: Graph, request: PlanRequest, distance: Mapping[int, Mapping[str, Distance]], max_states: int
) -> int:
    """A peak that no plan is below, whatever it copies and in whatever order it runs."""
    holds = _values(graph)
    size = _sizes(graph, request, holds)
    number = {value: k for k, value in enumerate(size)}
    nodes = [k for k, node in enumerate(graph.nodes) if not _moves(graph, k) and node.output in number]
    number_of = {node.output: k for k, node in enumerate(graph.nodes)}
    unit_of = {graph.nodes[k].output: n for n, k in enumerate(nodes)}
    units: list[Unit] = []
    users = [0] * len(number)
    for n, index in enumerate(nodes):
        node = graph.nodes[index]
        read = dict.fromkeys(v for name in graph.activations(node) for v in sorted(holds[name]))
        roots = tuple(dict.fromkeys(number[v] for v in (node.output, *read)))
        for root in roots:
            users[root] |= 1 << n
        before = sum(1 << unit_of[v] for v in _needs(graph, index, number_of) if v in unit_of)
        over = _over(graph, index, holds, distance[index], number, backward=request.backward)
        units.append(Unit(index, number[node.output], roots, over, request.scratch.get(index, 0), before))
    kept = {v for port in graph.outputs for v in holds.get(port.tensor, ())}
    roots = tuple(
        Root(
            value,
            size=bytes_,
            bytes=bytes_,
            align=1,
            kind=BufferKind.TENSOR,
            external=False,
            from_start=value not in unit_of,
            to_end=value in kept,
            writers=1 << unit_of[value] if value in unit_of else 0,
            users=users[number[value]],
        )
        for value, bytes_ in size.items()
    )
    bound = best_order(MemoryModel(roots, tuple(units)), max_states, beam=1).bound
    return -(-bound // request.align) * request.align


def trivial_bound(graph: Graph, request: PlanRequest) -> int:
    """Bytes of all inputs, or of all outputs, whichever is more: they are all there at once."""
    external = request.external(graph) | graph.constants.keys()
    return max(
        sum(graph.tensors[name].bytes for name in names if name not in external)
        for names in (graph.input_names, graph.output_names)
    )


def _moves(graph: Graph, index: int) -> bool:
    return isinstance(graph.nodes[index].op, Reshape | Slice | Transpose | Concat)


def _values(graph: Graph) -> dict[str, frozenset[str]]:
    """The values that a tensor surely holds bytes of."""
    holds: dict[str, frozenset[str]] = dict.fromkeys(graph.constants, frozenset())
    holds |= {name: frozenset((name,)) for name in graph.input_names}
    for index, node in enumerate(graph.nodes):
        parts = [holds[name] for name in node.inputs]
        if not _moves(graph, index):
            holds[node.output] = frozenset((node.output,))
        elif isinstance(node.op, Slice) and len(parts[0]) != 1:
            holds[node.output] = frozenset()  # which of them it takes is not known here
        else:
            holds[node.output] = frozenset[str]().union(*parts)
    return holds


def _sizes(graph: Graph, request: PlanRequest, holds: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Bytes of each value that matter as long as it has a use: of one that is sliced, the least slice."""
    made = [n for n in graph.tensors if n in holds and holds[n] == frozenset((n,))]
    size = {value: graph.tensors[value].bytes for value in made}
    for node in graph.nodes:
        if isinstance(node.op, Slice):
            for value in holds[node.output]:
                size[value] = min(size[value], graph.tensors[node.output].bytes)
    for name in request.external(graph):
        size |= dict.fromkeys(holds[name], 0)
    return size


def _needs(graph: Graph, index: int, number: Mapping[str, int]) -> set[str]:
    """Every computed tensor that a node's inputs are made of, through any number of views."""
    found: set[str] = set()
    waiting = list(graph.activations(graph.nodes[index]))
    while waiting:
        name = waiting.pop()
        if name in number and _moves(graph, number[name]):
            waiting += graph.activations(graph.nodes[number[name]])
        else:
            found.add(name)
    return found


def _over(
    graph: Graph,
    index: int,
    holds: Mapping[str, frozenset[str]],
    distance: Mapping[str, Distance],
    number: Mapping[str, int],
    *,
    backward: bool,
) -> tuple[tuple[int, int, int | None], ...]:
    """For each value read, the least distance it can have to the output in any layout.

    Rows backward are the same as forward seen from the other end, so one distance stands for both.
    """
    out = graph.tensors[graph.nodes[index].output].bytes
    least: dict[int, int] = {}
    for name in graph.activations(graph.nodes[index]):
        d = distance[name].forward
        if backward:
            d = min(d, max(0, distance[name].backward + out - graph.tensors[name].bytes))
        for value in holds[name]:
            least[number[value]] = min(d, least.get(number[value], d))
    return tuple((value, d, None) for value, d in sorted(least.items()))
