# SPDX-License-Identifier: Apache-2.0
"""What kernels work in is as large as they need; its parts lie within it, and apart from each other."""

from __future__ import annotations

from collections.abc import Iterator

from mmcc.checker.program_moves import memory_name
from mmcc.checker.replay import label
from mmcc.ir.graph import Graph
from mmcc.ir.module import Entry
from mmcc.ir.nest import Span
from mmcc.ir.plan import Plan
from mmcc.ir.program import EntryCode, KernelUse, View


def check_work(graph: Graph, plan: Plan, program: EntryCode) -> Iterator[str]:
    """Kernels that need more bytes, for sums or to work in, than the plan has for them."""
    size = {b.name: b.size for b in plan.buffers}
    taking = {index for group in plan.groups for index in group.accumulating}
    for node in program.nodes:
        index, what = node.index, "to keep its sums in" if node.index in taking else "to work in"
        name = (plan.accumulators if index in taking else plan.scratch or {}).get(index)
        has = 0 if name is None else size[name]
        if has < node.works:
            yield f"{label(graph, index)} needs {node.works} bytes {what}, but the plan has {has} for it"


def part_of_work(entry: Entry, plan: Plan, index: int, use: KernelUse, name: str) -> Iterator[str]:
    """What is wrong with the part `name` of the scratch that a kernel of node `index` has."""
    buffer = (plan.scratch or {})[index]
    size = next(b.size for b in plan.buffers if b.name == buffer)
    work = View(memory_name(entry, plan.places[buffer]), plan.places[buffer].offset, size, 0, 1)
    parts = {n: view for n, view in use.fields if isinstance(view, View) and n.startswith("work")}
    own, whole = _bytes(parts[name]), _bytes(work)
    where = (
        f"{label(entry.graph, index)} has its {name} at bytes [{own.lo}, {own.hi}) of {parts[name].memory}"
    )
    if parts[name].memory != work.memory or own.lo < whole.lo or own.hi > whole.hi:
        yield f"{where}, not within its scratch, [{whole.lo}, {whole.hi}) of {work.memory}"
    for other, view in parts.items():
        span = _bytes(view)
        if other < name and span.lo < own.hi and own.lo < span.hi:
            yield f"{where}, where its {other} is"


def _bytes(view: View) -> Span:
    assert isinstance(view.offset, int)
    return Span(view.offset, view.offset + view.rows * view.row_stride)
