# SPDX-License-Identifier: Apache-2.0
"""Kernels in chunks that several threads may make at the same time, once it is known where everything is.

A kernel is cut by rows of its output; by columns where rows are few; or by channels, in parts that have
constants of their own, where threads would not get as much of the others. A sum is never cut, so bits are the
same for any number of chunks and any order. What one chunk writes no other may read or write: the output is
apart from all that is read, or lies over it element by element.
"""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.nest import Nest
from mmcc.ir.plan import PART, Along, Chunks, Group, Plan
from mmcc.ir.traits import Moves
from mmcc.ir.types import geometry
from mmcc.planner.cost import node_cost
from mmcc.planner.request import PlanRequest

LEAST_WORK = 10_000  # predicted for a chunk: to hand one to another thread takes some thousands
LEAST_GAIN = 0.04  # of all threads' time, for which channels are cut: the input is then read more than once
MOST_EACH = 4  # chunks a thread: those that are slower, or begin later, then make fewer


def apart(graph: Graph, request: PlanRequest) -> frozenset[int]:
    """Nodes whose output is to be apart from what they read, so that they can be made in chunks."""
    if request.threads < 2 or request.by_region or request.staging is not None:
        return frozenset()
    return frozenset(k for k in range(len(graph.nodes)) if len(_cut(graph, k, request).spans) > 1)


def in_chunks(graph: Graph, plan: Plan, request: PlanRequest) -> Plan:
    """The plan with chunks of the nodes that run alone, where that pays and no chunk is in another's way."""
    if request.threads < 2:
        return plan
    found: dict[int, Chunks] = {}
    for step, group in enumerate(plan.groups):
        index = group.nodes[0]
        chunks = _cut(graph, index, request) if _alone(plan, group) else Chunks(())
        if len(chunks.spans) > 1 and free_of_itself(graph, plan, index, step):
            found[index] = chunks
    return replace(plan, chunks=found)


def _alone(plan: Plan, group: Group) -> bool:
    """True of a group that is one call of a kernel which works in registers and reads constants in place."""
    index = group.nodes[0]
    looped = len(group.nodes) > 1 or group.strips or group.batched or group.backward or group.accumulating
    return not (looped or index in (plan.scratch or {}) or index in plan.staged or index in plan.aliases)


def _cut(graph: Graph, index: int, request: PlanRequest) -> Chunks:
    """The chunks of a node, as if nothing were in the way; one if it is not to be cut."""
    node = graph.nodes[index]
    nest = nest_of(graph, node) if not node.at_once else None
    rows, cols, _ = geometry(graph.tensors[node.outputs[0]].shape)
    traits = node.op.traits
    whole = Chunks((0, rows))
    # functions of the caller's need not bear several calls at once; only moving elements is not worth it
    summed = traits.rides and any(state.end == node.outputs[0] for state in graph.states)
    if nest is None or nest.row_order or node.handoff or traits.paged or summed:
        return whole
    if (
        traits.moves is Moves.BY_PLACE
        or not node.inputs
        or index in request.scratch
        or index in request.ordered
    ):
        return whole
    work = node_cost(graph, node, request.cost).total(rows, 1, 1, 1.0)
    most = min(request.threads * MOST_EACH, int(work // LEAST_WORK))
    by_columns = rows < request.threads and cols > rows and _by_columns(nest)
    along, extent = (Along.COLUMNS, cols) if by_columns else (Along.ROWS, rows)
    each = max(1, min(MOST_EACH, extent // (MOST_EACH * request.threads)))
    count = max(1, min(each * request.threads, most, extent))
    if count > request.threads:
        count -= count % request.threads  # or some threads would make a chunk less, and wait
    found = Chunks(_even(extent, count), along)
    parts = _parts(graph, index, request, most)
    if len(parts.spans) > 1 and _balance(parts, request) > _balance(found, request) + LEAST_GAIN:
        found = parts
    return found if len(found.spans) > 1 else whole


def _parts(graph: Graph, index: int, request: PlanRequest, most: int) -> Chunks:
    """A node's channels in a chunk for each thread: each chunk reads all of the input."""
    channels = geometry(graph.tensors[graph.nodes[index].output].shape)[2]
    blocks = -(-channels // PART)
    count = min(request.threads, most, blocks)
    if index not in request.parts or index in request.useful or count < 2:
        return Chunks((0, channels), Along.CHANNELS)
    return Chunks(tuple(min(cut * PART, channels) for cut in _even(blocks, count)), Along.CHANNELS)


def _balance(chunks: Chunks, request: PlanRequest) -> float:
    """The part of their time that threads work, where each takes a chunk as it is free."""
    busy = [0] * request.threads
    for span in chunks.spans:
        busy[busy.index(min(busy))] += len(span)
    return sum(busy) / (max(busy) * request.threads)


def _by_columns(nest: Nest) -> bool:
    """True if columns of the output are one loop."""
    return len(nest.write.shape) >= 3 and nest.axis_loop(1) is not None


def _even(extent: int, count: int) -> tuple[int, ...]:
    return tuple(k * extent // count for k in range(count + 1))


def free_of_itself(graph: Graph, plan: Plan, index: int, step: int) -> bool:
    """True if no chunk of a node writes what another reads or writes."""
    node = graph.nodes[index]
    nest, name = nest_of(graph, node), node.output
    own, tensor = plan.slots[name], graph.tensors[name]
    if own.rows < geometry(tensor.shape)[0]:
        return False
    mine = _bytes(graph, plan, name, step)
    for number, access in enumerate(nest.reads):
        read = node.inputs[access.operand]
        if graph.is_constant(read):
            continue
        theirs, slot = _bytes(graph, plan, read, step), plan.slots[read]
        strides = slot.row_stride == own.row_stride and slot.col_stride == own.col_stride
        if nest.is_elementwise_in(number) and theirs == mine and strides and slot.rows == own.rows:
            continue  # a chunk reads the bytes that it writes
        if mine[0] == theirs[0] and mine[1] < theirs[2] and theirs[1] < mine[2]:
            return False
    return True


def _bytes(graph: Graph, plan: Plan, name: str, step: int) -> tuple[object, int, int]:
    """The memory of a tensor, and the bytes there from its first to its last."""
    slot, tensor = plan.slots[name], graph.tensors[name]
    _, cols, channels = geometry(tensor.shape)
    place = plan.place_at(slot.buffer, step)
    begin = place.offset + slot.offset
    end = begin + (slot.rows - 1) * slot.row_stride + (cols - 1) * slot.col_stride
    return place.region, begin, end + tensor.dtype.bytes(channels)
