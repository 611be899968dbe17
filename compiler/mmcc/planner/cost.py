# SPDX-License-Identifier: Apache-2.0
"""Predicted work of a plan: a linear model with the figures of the target's `[cost]` table, in its unit.

A node costs so much for each multiplication, each sum that is scaled, and each value that is loaded for them;
or for each element; then for each row it makes (pointers are set up anew), and for each call. The figures are
fitted to counts by bench/fit_cost.py: of instructions, or of cycles for cores whose cycles are modelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from math import prod

from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import LoopKind, Nest
from mmcc.ir.plan import Group, Plan
from mmcc.ir.regions import Place, Region
from mmcc.ir.types import geometry
from mmcc.ops.conv import Conv
from mmcc.ops.half_layers import sums_in_halves
from mmcc.ops.winograd import in_tiles
from mmcc.planner.fusion.schedule import Sources, Spans, batches, strip_columns

# figures a target does not state, by the end of their name
USUAL = {
    "staged_byte": 1.0,
    "_mac": 2.0,
    "_output": 10.0,
    "_input": 1.0,
    "page_out_element": 0.0,
    "page_in_element": 1.0,
    "short_time_fourier_element": 0.1,  # for each number of a frame and each output
    "fourier_element": 50.0,
    "_element": 15.0,
    "_row": 100.0,
    "call": 40.0,
}
TILED, TILED_BY_ROWS = "winograd_float_mac", "winograd_float_rows_mac"


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What one node costs: `work` for all rows and columns once, `row` and `call` for each one.

    `gather` is the part of the work that is done for each block of constants: loading inputs.
    """

    macs: int
    work: float
    row: float
    call: float
    gather: float = 0.0

    def total(self, steps: int, calls: int, strips: int, share: float, blocks: int = 1) -> float:
        """Of a node whose columns are computed `share` times on average, block of constants by block."""
        each = (self.row * steps + self.call * calls) * strips * blocks
        return self.work * share + each + self.gather * (blocks - 1)


def node_cost(graph: Graph, node: Node, figures: Mapping[str, float]) -> NodeCost:
    """The cost of one node."""
    counts, call, macs = quantities(graph, node), figure(figures, "call"), nest_of(graph, node).macs
    if TILED in figures and _in_tiles(graph, node):
        counts[TILED] = counts.pop("conv_float_mac")
        rows = geometry(graph.tensors[node.output].shape)[0]
        call += macs / rows * (figure(figures, TILED_BY_ROWS) - figures[TILED])
    parts = {name: count * figure(figures, name) for name, count in counts.items()}
    gather = sum(part for name, part in parts.items() if name.endswith("_input"))
    row = figure(figures, row_figure(graph, node))
    return NodeCost(macs, sum(parts.values()), row, call, gather)


def _in_tiles(graph: Graph, node: Node) -> bool:
    """True of a convolution that targets with such kernels make in tiles of two rows: row by row, a call for
    each, it takes more products."""
    if not isinstance(node.op, Conv) or not all(map(graph.is_constant, node.inputs[1:])):
        return False
    x, w, y = (graph.tensors[name] for name in (*node.inputs[:2], node.output))
    return in_tiles(node.op, x, w, y)


def row_figure(graph: Graph, node: Node) -> str:
    """Which figure a row of a node goes by."""
    nest = nest_of(graph, node)
    return f"{mac_kind(nest)}_row" if nest.macs else "element_row"


def figure(figures: Mapping[str, float], name: str) -> float:
    """A figure of the target's, or the usual one."""
    if name in figures:
        return figures[name]
    return next(value for end, value in USUAL.items() if name.endswith(end))


def quantities(graph: Graph, node: Node) -> dict[str, float]:
    """What the work of a node is made of: how often each figure counts."""
    nest = nest_of(graph, node)
    if not nest.macs:
        return {f"{node.op.kernel}_element": nest.iterations}
    dtype = graph.tensors[node.inputs[0]].dtype
    halves = sums_in_halves(node.op, dtype)
    kind = mac_kind(nest) + ("_fp16" if halves else "_float" if dtype.is_float else "")
    counts: dict[str, float] = {f"{kind}_mac": nest.macs, f"{kind}_output": prod(nest.write.shape)}
    if not kind.startswith("depthwise"):
        counts[f"{kind}_input"] = nest.macs / nest.write.shape[-1]
    return counts


def mac_kind(nest: Nest) -> str:
    """Which figures a nest of multiplications goes by: what is summed up, and over how many windows."""
    summed = [loop.extent for loop in nest.loops if loop.kind is LoopKind.REDUCE]
    if len(nest.write.shape) < 3:
        return "dense"
    if summed and summed[-1] == 1 and prod(summed) > 1:
        return "depthwise"
    return "pointwise" if prod(summed[:-1]) == 1 else "conv"


def plan_macs(graph: Graph, plan: Plan) -> int:
    """Multiply-accumulates of a plan, what is computed again counted again."""
    return round(
        sum(
            nest_of(graph, graph.nodes[index]).macs * share
            for group in plan.groups
            for index, share in shares(graph, group).items()
        )
    )


def plan_cost(graph: Graph, plan: Plan, figures: Mapping[str, float]) -> float:
    """Predicted work of a plan, in the unit of `figures`."""
    total = sum(node_costs(graph, plan, figures).values())
    total += figure(figures, "staged_byte") * sum(read_of(graph, plan).values())
    return total + moves_cost(plan)


def node_costs(graph: Graph, plan: Plan, figures: Mapping[str, float]) -> dict[int, float]:
    """Predicted work of each node that runs, as often as the plan runs it."""
    spans, found = Spans(graph), dict[int, float]()
    for group in plan.groups:
        sources = Sources(graph, plan.aliases, group.accumulating, spans)
        alone = len(group.nodes) == 1 and not group.strips and not group.backward
        calls = batches(graph, group, plan.aliases) if group.batched else {}
        for index, share in shares(graph, group).items():
            steps = sources.steps(index)
            cost = node_cost(graph, graph.nodes[index], figures)
            times = len(calls[index]) if index in calls else 1 if alone else steps
            staged = plan.staged.get(index)
            blocks = staged.blocks.count if staged else 1
            found[index] = cost.total(steps, times, max(1, len(group.strips)), share, blocks)
    return found


def moves_cost(plan: Plan) -> float:
    """Predicted cycles of the moves between regions that block; the others go on while the model computes."""
    size = {b.name: b.size for b in plan.buffers}
    return sum(
        size[move.buffer] * (_read_cost(move.source) + _write_cost(move.target))
        for move in (transfer.move for transfer in plan.transfers)
        if not move.asynchronous
    )


def _read_cost(place: Place) -> float:
    """Cycles a byte; what the caller brings is taken to be fast."""
    return place.region.read_cost if isinstance(place.region, Region) else 0.0


def _write_cost(place: Place) -> float:
    return (place.region.write_cost or 0.0) if isinstance(place.region, Region) else 0.0


def read_of(graph: Graph, plan: Plan) -> dict[int, int]:
    """By node, the bytes of constants that an inference reads from slow memory."""
    found: dict[int, int] = {}
    for group in plan.groups:
        calls = batches(graph, group, plan.aliases) if group.batched else {}
        for index in group.nodes:
            if index in plan.staged:
                staged = plan.staged[index]
                times = 1 if staged.resident else len(calls[index])
                found[index] = staged.blocks.total * times
        for index, size in _read_in_vain(plan, group, calls):
            found[index] += size
    return found


def _read_in_vain(
    plan: Plan, group: Group, calls: Mapping[int, tuple[tuple[int, int, int], ...]]
) -> Iterator[tuple[int, int]]:
    """First blocks whose read begins ahead for a node that then has no rows to make in a tile iteration.

    With a single buffer nothing is read ahead.
    """
    nodes = [k for k in group.nodes if k in plan.staged and len(set(plan.staged[k].buffers)) > 1]
    order = sorted((iteration, k) for k in nodes for iteration, _, _ in calls[k])
    iterations = max((iteration for iteration, _ in order), default=0)
    for (iteration, index), after in zip_longest(order, order[1:]):
        following = nodes[(nodes.index(index) + 1) % len(nodes)]
        last = index == nodes[-1] and iteration == iterations
        if not last and (after is None or after[1] != following):
            blocks = plan.staged[following].blocks
            yield following, blocks.bytes if blocks.count > 1 else blocks.last


def shares(graph: Graph, group: Group) -> dict[int, float]:
    """For each node of a group, columns computed in all strips over columns of its output, with what strips
    make once more inside it."""
    if len(group.strips) < 2:
        return dict.fromkeys(group.nodes, 1.0)
    made = dict.fromkeys(group.nodes, 0)
    whole = strip_columns(graph, group, group.strips[0].columns.join(group.strips[-1].columns))
    for strip in group.strips:
        held = strip_columns(graph, group, strip.columns)
        for index in group.nodes:
            made[index] += len(held[graph.nodes[index].output])
    nodes = {index: graph.nodes[index] for index in made}
    return {
        index: made[index] / len(whole[node.output]) + nest_of(graph, node).seams(len(group.strips))
        for index, node in nodes.items()
    }
