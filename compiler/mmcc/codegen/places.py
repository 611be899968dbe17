# SPDX-License-Identifier: Apache-2.0
"""Places of the plan as addresses of the program."""

from __future__ import annotations

from mmcc.ir.graph import Graph
from mmcc.ir.module import port_symbol
from mmcc.ir.plan import Plan
from mmcc.ir.program import Address, View
from mmcc.ir.regions import External, Place


def view_of(graph: Graph, plan: Plan, name: str, step: int, entry: str) -> View:
    """Where the nodes of a step find a tensor; external inputs and outputs are memories of their own."""
    slot, size = plan.slots[name], graph.tensors[name].dtype.size
    at = address_of(graph, plan.place_at(slot.buffer, step), entry)
    return View(at.memory, at.offset + slot.offset, slot.row_stride, slot.col_stride // size, slot.rows)


def address_of(graph: Graph, place: Place, entry: str) -> Address:
    """A place as the program has it: its memory by name."""
    if not isinstance(place.region, External):
        return Address(place.region.name, place.offset)
    for kind, ports in (("input", graph.inputs), ("output", graph.outputs)):
        for index, port in enumerate(ports):
            if port.tensor == place.region.tensor:
                return Address(port_symbol(entry, kind, index), place.offset)
    raise LookupError(place.region)
