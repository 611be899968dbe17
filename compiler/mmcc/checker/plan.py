# SPDX-License-Identifier: Apache-2.0
"""Replay a plan byte by byte. Shares no code with the solvers, so it can convict them.

First what can be seen without running: that nothing is missing, misplaced or dead when it is used. Then the
replay. What a view means is asked of the op's numpy reference.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmcc.checker.chunks import check_chunks
from mmcc.checker.grain import used
from mmcc.checker.handoff import check_handoffs
from mmcc.checker.order import Order
from mmcc.checker.repeats import check_repeats
from mmcc.checker.replay import MOST, Replay, label
from mmcc.checker.transfers import check_transfers
from mmcc.checker.views import only_moves
from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.nest import LoopKind
from mmcc.ir.plan import Group, Plan
from mmcc.ir.regions import Region
from mmcc.ir.types import geometry
from mmcc.ops.movement import Concat


def check_plan(graph: Graph, plan: Plan) -> list[str]:
    """Everything wrong with `plan`, as sentences; empty when it is sound."""
    wrong = _incomplete(graph, plan)
    if not wrong:
        wrong = [*_misplaced(graph, plan)]
        if not any("outside" in text for text in wrong):
            wrong += _collisions(plan)
            wrong += _moved_states(graph, plan)
            wrong += _outlived(graph, plan)
            wrong += check_handoffs(graph, plan)
            wrong += check_chunks(graph, plan)
            wrong += check_repeats(graph, plan, check_plan)
            wrong += Replay(graph, plan).run()
    return wrong[:MOST]


def _incomplete(graph: Graph, plan: Plan) -> list[str]:
    """What is missing or named twice; nothing else can be checked before this holds."""
    wrong: list[str] = []
    runs = [k for group in plan.groups for k in group.nodes]
    for index, node in enumerate(graph.nodes):
        times = runs.count(index) + (index in plan.aliases)
        if times != 1:
            wrong.append(f"{label(graph, index)} is in {times} groups or aliases, not in one")
        if index in plan.copied and not isinstance(node.op, Concat):
            wrong.append(f"{label(graph, index)} is no Concat, but copies only some operands")
    wrong += [text for group in plan.groups for text in _impossible(graph, plan, group)]
    buffers = {b.name for b in plan.buffers}
    for name in used(graph):
        if name not in plan.slots:
            wrong.append(f'tensor "{name}" has no slot')
        elif plan.slots[name].buffer not in buffers:
            wrong.append(f'tensor "{name}" is in buffer "{plan.slots[name].buffer}", which does not exist')
    for name in (*(plan.scratch or {}).values(), *plan.accumulators.values()):
        if name not in buffers:
            wrong.append(f'buffer "{name}", for sums or to work in, does not exist')
    constants = [(index, name) for index, staged in plan.staged.items() for name in staged.buffers]
    constants += plan.fetched.items()
    wrong += [
        f'{label(graph, index)} has constants in "{name}", which does not exist'
        for index, name in constants
        if name not in buffers
    ]
    wrong += [f'buffer "{name}" has no place' for name in buffers if name not in plan.places]
    return wrong or [*check_transfers(plan)]


def _impossible(graph: Graph, plan: Plan, group: Group) -> Iterator[str]:
    """What the nodes of a group cannot do together."""
    if not group.nodes or not 0 <= min(group.nodes) <= max(group.nodes) < len(graph.nodes):
        yield f"a group has the nodes {group.nodes}, of {len(graph.nodes)} that there are"
        return
    told = {*group.accumulating, *group.drained, *(k for pair in group.riding for k in pair)}
    if not told <= {*group.nodes}:
        yield f"a group of the nodes {group.nodes} knows of others, {sorted(told - {*group.nodes})}"
    last = group.nodes[-1]
    if group.tile_rows < 0 or (group.batched and not group.tile_rows):
        yield f"the group of {label(graph, last)} makes {group.tile_rows} rows in an iteration"
    if group.backward and len(group.nodes) > 1:
        yield f"{label(graph, last)} demands rows of others, but runs backward"
    alone = [k for k in group.nodes if graph.nodes[k].alone]
    if alone and (len(group.nodes) > 1 or group.strips or group.backward or group.batched):
        yield f"{label(graph, alone[0])} runs in one call, but not alone and whole"
    if len(group.strips) > 1 and (group.drained or group.accumulating):
        yield f"{label(graph, last)} runs in strips, but not all its nodes can"
    for index in group.nodes:
        yield from _out_of_order(graph, plan, group, index)


def _out_of_order(graph: Graph, plan: Plan, group: Group, index: int) -> Iterator[str]:
    """What a node whose rows come in an order is asked to do, and cannot; it may hand something on."""
    node = graph.nodes[index]
    order, here = nest_of(graph, node).row_order, label(graph, index)
    if order is None:
        return
    if (
        index not in (plan.scratch or {})
        and node.handoff is None
        and not only_moves(graph, node, lambda name: graph.tensors[name].shape)
    ):
        yield f"{here} hands something on from row to row, but has no scratch for it"
    if len(group.strips) > 1 or (index in plan.staged and plan.staged[index].blocks.count > 1):
        yield f"{here} makes each row once, but its group would make it again"
    if not node.at_once and group.backward != (order is LoopKind.BACKWARD):
        yield f"{here} makes its rows {order.name.lower()}, but its group runs the other way"


def _misplaced(graph: Graph, plan: Plan) -> Iterator[str]:
    """Wrong region, alignment or size of buffers and slots."""
    yield from _misplaced_buffers(plan)
    size = {b.name: b.size for b in plan.buffers}
    stays = plan.stays()
    for index, staged in plan.staged.items():
        for name in staged.buffers:
            if size[name] < staged.blocks.bytes:
                room = f'"{name}" has {size[name]}'
                yield f"{label(graph, index)} has blocks of {staged.blocks.bytes} bytes, {room}"
        if staged.resident and staged.blocks.count > 1:
            yield f"{label(graph, index)} has several blocks of constants, but one place for them"
    widest = _widest(graph, plan)
    for name in used(graph):
        slot, tensor = plan.slots[name], graph.tensors[name]
        _, cols, channels = geometry(tensor.shape)
        cols = widest.get(name, cols)
        wide = (cols - 1) * slot.col_stride + tensor.dtype.bytes(channels)
        end = slot.offset + (slot.rows - 1) * slot.row_stride + wide
        if min(slot.offset, slot.row_stride, slot.col_stride, slot.rows - 1) < 0 or end > size[slot.buffer]:
            yield (
                f'tensor "{name}" is outside its buffer "{slot.buffer}": '
                f"bytes [{slot.offset}, {end}) of {size[slot.buffer]}"
            )
        places = [stay.place.offset + slot.offset for stay in stays[slot.buffer]]
        addresses = (*places, slot.row_stride, slot.col_stride)
        if any(a % tensor.dtype.size for a in addresses):
            yield f'tensor "{name}" has elements not aligned to their {tensor.dtype.size} bytes'


def _misplaced_buffers(plan: Plan) -> Iterator[str]:
    """Wrong region, alignment or size of buffers."""
    stays = plan.stays()
    for b in plan.buffers:
        for place in (stay.place for stay in stays[b.name]):
            end, most = place.offset + b.size, place.region.size if isinstance(place.region, Region) else None
            if place.region not in b.regions:
                yield f'buffer "{b.name}" may not be in {place.region}'
            if place.offset % b.align:
                yield f'buffer "{b.name}" is at {place.offset}, not aligned to {b.align}'
            if isinstance(place.region, Region) and place.region.align % b.align:
                begins = f"{place.region} begins at any multiple of {place.region.align}"
                yield f'buffer "{b.name}" must be aligned to {b.align}, but {begins}'
            if place.offset < 0 or (most is not None and end > most):
                yield f'buffer "{b.name}" is outside {place.region}: bytes [{place.offset}, {end}) of {most}'


def _widest(graph: Graph, plan: Plan) -> dict[str, int]:
    """Columns held at most of tensors that are held strip by strip."""
    order, found = Order(graph, plan), dict[str, int]()
    for group in plan.groups:
        narrow = order.narrow(group)
        for strip in range(len(group.strips)):
            for name, span in order.columns(group, strip).items():
                if name in narrow:
                    found[name] = max(found.get(name, 0), len(span))
    return found


def _collisions(plan: Plan) -> Iterator[str]:
    """Buffers that live together and share bytes without an overlap that says so."""
    allowed = {(o.output, o.input) for o in plan.overlaps} | {(o.input, o.output) for o in plan.overlaps}
    size = {b.name: b.size for b in plan.buffers}
    stays = [(name, stay) for name, found in plan.stays().items() for stay in found]
    begin = np.array([stay.place.offset for _, stay in stays])
    end = begin + np.array([size[name] for name, _ in stays])
    lo, hi = np.array([stay.taken.lo for _, stay in stays]), np.array([stay.taken.hi for _, stay in stays])
    number = {region: k for k, region in enumerate(dict.fromkeys(stay.place.region for _, stay in stays))}
    region = np.array([number[stay.place.region] for _, stay in stays])
    for k, (name, stay) in enumerate(stays):
        together = (lo[:k] < hi[k]) & (lo[k] < hi[:k]) & (region[:k] == region[k])
        for j in np.flatnonzero(together & (begin[:k] < end[k]) & (begin[k] < end[:k])):
            other = stays[j][0]
            if (name, other) not in allowed:
                where = stay.place.region
                yield f'buffers "{other}" and "{name}" live together and share bytes of {where}'


def _moved_states(graph: Graph, plan: Plan) -> Iterator[str]:
    """States whose value at the end of a run is not where the next run finds it, or may be gone by then."""
    live = {b.name: b.live for b in plan.buffers}
    for state in graph.states:
        begin, end = plan.slots[state.begin], plan.slots[state.end]
        old, new = plan.places[begin.buffer], plan.places[end.buffer]
        at = f"byte {old.offset + begin.offset} of {old.region}"
        then = f"byte {new.offset + end.offset} of {new.region}"
        if at != then:
            yield f'state "{state.begin}" is at {at}, but its new value "{state.end}" at {then}'
        if (begin.row_stride, begin.col_stride, begin.rows) != (end.row_stride, end.col_stride, end.rows):
            yield f'state "{state.begin}" and its new value "{state.end}" have other strides'
        if live[begin.buffer].lo > 0 or live[end.buffer].hi < len(plan.groups):
            yield f'state "{state.begin}" lives from run to run, but its buffers do not'


def _outlived(graph: Graph, plan: Plan) -> Iterator[str]:
    """Tensors that are used when their buffers do not live."""
    live = {b.name: b.live for b in plan.buffers}
    for step, group in enumerate(plan.groups):
        for index in group.nodes:
            node = graph.nodes[index]
            names = [*_operands(graph, plan, index), *node.outputs]
            scratch = (plan.scratch or {}).get(index)
            buffers = {name: plan.slots[name].buffer for name in names}
            constants = plan.staged[index].buffers if index in plan.staged else ()
            fetched = plan.fetched.get(index)
            own = {name: name for name in (scratch, *constants, fetched) if name}
            for name, buffer in (buffers | own).items():
                if not live[buffer].lo <= step < live[buffer].hi:
                    yield (
                        f'{label(graph, index)} uses "{name}" at step {step}, but its buffer "{buffer}" '
                        f"lives in steps [{live[buffer].lo}, {live[buffer].hi})"
                    )
    for port in graph.inputs:
        if live[plan.slots[port.tensor].buffer].lo > 0:
            yield f'input "{port.tensor}" is filled before step 0, but its buffer does not live then'
    for port in graph.outputs:
        if port.tensor in plan.slots and live[plan.slots[port.tensor].buffer].hi < len(plan.groups):
            yield f'output "{port.tensor}" is read after the last step, but its buffer does not live then'


def _operands(graph: Graph, plan: Plan, index: int) -> list[str]:
    """Activations that a node's code reads."""
    node = graph.nodes[index]
    read = [node.inputs[k] for k in plan.copied.get(index, range(len(node.inputs)))]
    return [name for name in read if not graph.is_constant(name)]
