# SPDX-License-Identifier: Apache-2.0
"""Are a program's copies to slow memory and back those of the plan: of which rows, and under which number?"""

from __future__ import annotations

from collections.abc import Iterator

from mmcc.checker.replay import label
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.ir.program import EntryCode
from mmcc.ir.regions import SLOW
from mmcc.ir.types import geometry
from mmcc.ops.paging import PageIn, PageOut


def check_pages(graph: Graph, plan: Plan, program: EntryCode) -> Iterator[str]:
    """Everything in which the copies of `program` are not those of a sound `plan`."""
    numbers: dict[int, str] = {}
    for node in program.nodes:
        made = graph.nodes[node.index]
        if not isinstance(made.op, PageOut | PageIn):
            continue
        fields, here = dict(node.use.fields), f"{label(graph, node.index)} copies"
        there = made.output if isinstance(made.op, PageOut) else made.inputs[0]
        slot, tensor = plan.slots[there], graph.tensors[there]
        rows, cols, channels = geometry(tensor.shape)
        row, place = tensor.dtype.bytes(cols * channels), plan.places[slot.buffer]
        if place.region != SLOW or slot.rows < rows or (rows > 1 and slot.row_stride != row):
            yield f'{here} "{there}" in {place}, which is no place for all its rows in slow memory'
        wanted = (place.offset + slot.offset, row, rows)
        found = fields["slow"], fields["bytes"], fields["rows"]
        if found != wanted:
            yield f"{here} rows with (byte, bytes of a row, rows) {found}, but they are {wanted}"
        if numbers.setdefault(made.op.page, there) != there or fields["page"] != made.op.page:
            yield f'{here} "{there}" as number {fields["page"]}, which is not its own alone'
