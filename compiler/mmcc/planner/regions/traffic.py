# SPDX-License-Identifier: Apache-2.0
"""Bytes that a plan reads and writes: of each tensor by each node, and so of each buffer and each region.

Every iteration of a node's loops reads an element of each operand, but for those that lie in padding. What a
kernel holds in registers from one iteration to others it reads less often; `PlanRequest.loads` has that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from math import prod

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, nest_of, taken_by
from mmcc.ir.nest import Access, Affine, Index, Nest
from mmcc.ir.plan import Plan
from mmcc.ir.regions import WEIGHTS, External, Place, Region
from mmcc.ir.traits import Alias
from mmcc.ir.types import geometry
from mmcc.planner.cost import read_of, shares
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Bytes:
    """How many are read and written in a run."""

    read: float = 0.0
    written: float = 0.0

    def __add__(self, other: Bytes) -> Bytes:
        return Bytes(self.read + other.read, self.written + other.written)

    def __mul__(self, factor: float) -> Bytes:
        return Bytes(self.read * factor, self.written * factor)

    def cost(self, region: Region | External) -> float:
        """Cycles they take in a region; what the caller brings is taken to be fast."""
        if isinstance(region, External):
            return 0.0
        return self.read * region.read_cost + self.written * (region.write_cost or 0.0)


def node_traffic(
    graph: Graph, index: int, loads: float = 1.0, copied: Collection[int] | None = None
) -> dict[str, Bytes]:
    """What a node reads and writes of each tensor that is not constant. A join reads the operands `copied`
    only, if that is given, and writes as much as it reads."""
    node, nest = graph.nodes[index], nest_of(graph, graph.nodes[index])
    found: dict[str, Bytes] = {}
    moved = 0.0
    for read in nest.reads:
        name = node.inputs[read.operand]
        if graph.is_constant(name) or (copied is not None and read.operand not in copied):
            continue
        count = nest.iterations * _inside(nest, read) * loads * graph.tensors[name].dtype.size
        found[name] = found.get(name, Bytes()) + Bytes(read=count)
        moved += count
    for name in node.outputs:
        joins = node.op.traits.alias is Alias.JOIN and copied is not None
        written = moved if joins else float(graph.tensors[name].bytes)
        found[name] = found.get(name, Bytes()) + Bytes(written=written)
    return found


def buffer_traffic(graph: Graph, plan: Plan, request: PlanRequest) -> dict[tuple[str, int], Bytes]:
    """What is read and written of each buffer in each step, moves apart."""
    found: dict[tuple[str, int], Bytes] = {}

    def add(buffer: str, step: int, count: Bytes) -> None:
        found[buffer, step] = found.get((buffer, step), Bytes()) + count

    size = {b.name: b.size for b in plan.buffers}
    staged = read_of(graph, plan)
    for step, group in enumerate(plan.groups):
        for index, share in shares(graph, group).items():
            if index in staged:
                used = plan.staged[index].blocks.total
                add(plan.staged[index].buffers[0], step, staged_traffic(request, index, used, staged[index]))
            for name, count in node_traffic(
                graph, index, request.loads.get(index, 1.0), plan.copied.get(index)
            ).items():
                add(plan.slots[name].buffer, step, count * share)
            if index in plan.accumulators:
                sums = plan.accumulators[index]
                add(sums, step, sums_traffic(graph, index, size[sums]))
            if index in (plan.scratch or {}):
                work = (plan.scratch or {})[index]
                add(work, step, scratch_traffic(graph, index, size[work]))
    return found


def region_traffic(graph: Graph, plan: Plan, request: PlanRequest) -> dict[Region, Bytes]:
    """What a run reads and writes in each region that the plan uses, moves included.

    Behind these: what it reads of the constants that may be copied to a region, where the linker puts them.
    """
    found = {region: Bytes() for region in plan.regions()}

    def add(place: Place, count: Bytes) -> None:
        if isinstance(place.region, Region):
            found[place.region] = found.get(place.region, Bytes()) + count

    for (buffer, step), count in buffer_traffic(graph, plan, request).items():
        add(plan.place_at(buffer, step), count)
    for place, read in constants_read(graph, plan, request):
        add(place, Bytes(read))
    size = {b.name: b.size for b in plan.buffers}
    for move in (transfer.move for transfer in plan.transfers):
        add(move.source, Bytes(read=size[move.buffer]))
        add(move.target, Bytes(written=size[move.buffer]))
    return found


def access_cost(graph: Graph, plan: Plan, request: PlanRequest) -> float:
    """Cycles that a plan's reads and writes of buffers take in their regions, moves apart."""
    traffic = buffer_traffic(graph, plan, request).items()
    return sum(count.cost(plan.place_at(buffer, step).region) for (buffer, step), count in traffic)


def constants_read(graph: Graph, plan: Plan, request: PlanRequest) -> Iterator[tuple[Place, float]]:
    """Where nodes find constants that may be copied to a region, and the bytes that they read there."""
    weights = Place(replace(WEIGHTS, read_cost=request.constants_cost), 0)
    for step, group in enumerate(plan.groups):
        for index, share in shares(graph, group).items():
            if index in request.fetchable:
                read = request.fetchable[index].bytes * request.fetchable[index].passes * share
                name = plan.fetched.get(index)
                yield weights if name is None else plan.place_at(name, step), read


def constants_cost(graph: Graph, plan: Plan, request: PlanRequest) -> float:
    """Cycles that reads of such constants take, copies apart."""
    return sum(Bytes(read).cost(place.region) for place, read in constants_read(graph, plan, request))


def staged_traffic(request: PlanRequest, index: int, used: int, written: int) -> Bytes:
    """Of a node's constants where they come to: `used` are their bytes, `written` those that come there."""
    passes = request.staging.passes.get(index, 1.0) if request.staging is not None else 1.0
    return Bytes(used * passes, written)


def sums_traffic(graph: Graph, index: int, size: int) -> Bytes:
    """What a node reads and writes of sums that it keeps while rows come in: all of them for each pixel."""
    rows, cols, _ = geometry(graph.tensors[taken_by(graph, graph.nodes[index])].shape)
    return Bytes(size * rows * cols, size * (rows * cols + 1))


def scratch_traffic(graph: Graph, index: int, size: int) -> Bytes:
    """What a node reads and writes of its scratch at least: all of it for each row."""
    rows = geometry(graph.tensors[graph.nodes[index].outputs[0]].shape)[0]
    return Bytes(size * rows, size * rows)


def _inside(nest: Nest, access: Access) -> float:
    """Which part of the iterations reads an element that there is, and no padding."""
    extent = {loop.name: loop.extent for loop in nest.loops}
    parts = (_part(index, size, extent) for index, size in zip(access.index, access.shape, strict=True))
    return prod(parts)


def _part(index: Index, size: int, extent: Mapping[str, int]) -> float:
    if not isinstance(index, Affine) or not index.terms:
        return 1.0
    counters: list[NDArray[np.int64]] = [np.arange(extent[loop]) * factor for loop, factor in index.terms]
    values = reduce(np.add.outer, counters) + index.offset
    return float(np.mean((values >= 0) & (values < size * index.divisor)))
