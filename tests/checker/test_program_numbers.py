# SPDX-License-Identifier: Apache-2.0
"""Every number of lowered programs off by one, in turn: each is convicted, whatever kind of memory it is of.

What the check does not claim to see is named: numbers that only a kernel knows, and what is the same program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import pytest
from fused_c import request
from looped_graph import loop
from lowered_programs import HOST, Lowered, check, staged
from mmcc.codegen.lower import lower_entry
from mmcc.driver.ask import plan_request
from mmcc.driver.options import CompileOptions, silent
from mmcc.ir.module import RUN, Entry
from mmcc.ir.plan import Plan
from mmcc.ir.program import ByBlocks, Constant, EntryCode, Following, For, KernelUse, Moves, ProgramNode, View
from mmcc.ir.regions import Region
from mmcc.kernels.accumulate import accumulator_bytes
from mmcc.ops.movement import Expand
from mmcc.passes.copy_rows import copy_rows
from mmcc.passes.separate_states import separate_states
from mmcc.passes.stream_ports import stream_ports
from mmcc.passes.streaming.stream import stream_graph
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest
from moved_plans import idle, skipping, spilled
from planner_graphs import Build, kws
from stateful import BY_HAND
from streams import centred

pytestmark = pytest.mark.quick
UNSEEN = {  # what names code in C, or is only told
    (EntryCode, "first"),
    (EntryCode, "bodies"),
    (ProgramNode, "index"),
    (ProgramNode, "where"),
    (KernelUse, "origins"),  # unless a kernel asks for one
    (Moves, "step"),
    (ProgramNode, "works"),  # what the kernel says; more than the plan has is seen
}


def lowered(graph: Any, plan: Plan) -> Lowered:
    return graph, plan, lower_entry(Entry(RUN, graph), plan, HOST)


def threads() -> Lowered:
    """Rows in chunks."""
    graph = kws()
    return lowered(graph, best_plan(graph, replace(request(graph, fuse=False), threads=3)))


def parts() -> Lowered:
    """Channels in chunks, each with a kernel of its own."""
    b = Build("parts")
    graph = b.graph(b.dense(b.input(64), 40))
    asked = PlanRequest(threads=3, parts=frozenset(range(len(graph.nodes))))
    return lowered(graph, best_plan(graph, asked))


def moves() -> Lowered:
    """A buffer goes out to a second memory, and comes back."""
    graph = skipping()
    plan = best_plan(graph, request(graph, fuse=False))
    inside = max((b for b in idle(plan) if b.kind.value == "tensor"), key=lambda b: len(b.live))
    first, last = inside.live.lo + 1, inside.live.hi - 1
    return lowered(graph, spilled(plan, inside.name, (first, first + 2), (last - 2, last)))


def two_memories() -> Lowered:
    graph = skipping()
    least = best_plan(graph, request(graph)).peak(request(graph).regions[0])
    regions = (Region("fast", size=3 * least // 4), Region("psram", align=64, read_cost=4.0, write_cost=4.0))
    return lowered(graph, best_plan(graph, replace(request(graph), regions=regions, by_region=True)))


def states() -> Lowered:
    graph = separate_states(BY_HAND["accumulator"]())
    return lowered(graph, best_plan(graph, request(graph)))


def sums() -> Lowered:
    """A group that takes in rows one by one and keeps sums of them."""
    b = Build("sums")
    graph = b.graph(b.conv(b.mean(b.conv(b.input(6, 4, 2), 8, 3)), 3, 1))
    kept = {k: size for k, node in enumerate(graph.nodes) if (size := accumulator_bytes(graph, node))}
    plan = best_plan(graph, replace(request(graph), accumulators=kept))
    assert any(group.accumulating for group in plan.groups)
    return lowered(graph, plan)


def strips() -> Lowered:
    """Groups in column strips, with a join."""
    b = Build("strips")
    x = b.input(6, 16, 2)
    y = b.conv(b.conv(b.concat(2, x, b.conv(x, 4, 3)), 12, 3), 2, 3)
    graph = b.graph(y)
    plan = best_plan(graph, replace(request(graph), recompute=4.0))
    assert any(group.strips for group in plan.groups)
    return lowered(graph, plan)


def copies() -> Lowered:
    """Rows of what waits in slow memory, copied to a ring in fast memory for a convolution."""
    b = Build("copies")
    x = b.conv(b.input(8, 6, 3), 8, 3)
    graph = b.graph(b.sum(x, b.conv(b.conv(x, 8, 3), 8, 3)))
    first = graph.consumers[x][0]
    graph = copy_rows(graph, {(x, first.output)})
    regions = (Region("fast", size=700), Region("psram", align=64, read_cost=4.0, write_cost=4.0))
    plan = best_plan(graph, replace(request(graph), regions=regions, by_region=True))
    copy = next(node.output for node in graph.nodes if isinstance(node.op, Expand))
    ring = plan.slots[copy]
    assert ring.rows < 8
    assert plan.places[ring.buffer].region == regions[0]
    return lowered(graph, plan)


def body() -> Lowered:
    """A loop, and the code of its body."""
    graph = loop()
    return lowered(graph, best_plan(graph, plan_request(CompileOptions(), graph, HOST, silent)))


def hop() -> Lowered:
    """A hop of a stream, with rows that come and go through callbacks."""
    graph = stream_ports(separate_states(stream_graph(centred(), "x0:1").step))
    return lowered(graph, best_plan(graph, request(graph)))


def end() -> Lowered:
    """The end of a stream."""
    flush = stream_graph(centred(), "x0:1").flush
    assert flush is not None
    graph = separate_states(flush)
    return lowered(graph, best_plan(graph, request(graph)))


PROGRAMS: dict[str, Callable[[], Lowered]] = {
    "threads": threads,
    "parts": parts,
    "moves": moves,
    "two memories": two_memories,
    "states": states,
    "sums": sums,
    "strips": strips,
    "staged": lambda: staged(None),
    "staged-again": lambda: staged(16_000),
    "copies": copies,
    "body": body,
    "hop": hop,
    "end": end,
}


@dataclass(frozen=True)
class Number:
    """A number or a truth within a program: what it is called, and how to change it there."""

    name: str
    change: Callable[[int], Any]


def numbers(value: Any, name: str, again: Callable[[Any], Any]) -> Iterator[Number]:
    """All of a value; `again` makes the whole of it."""
    if isinstance(value, int):
        yield Number(name, lambda by: again((not value) if isinstance(value, bool) else value + by))
    elif isinstance(value, tuple):
        for k, each in enumerate(value):
            yield from numbers(each, name, lambda new, k=k: again((*value[:k], new, *value[k + 1 :])))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(each, name, lambda new, key=key: again(value | {key: new}))
    elif is_dataclass(value) and not isinstance(value, Constant):
        for field in fields(value):
            kind, each = type(value), getattr(value, field.name)
            if (kind, field.name) in UNSEEN or _is_the_same(value, field.name):
                continue
            if kind is KernelUse:  # of its own numbers only where its operands are
                each = (
                    tuple(one for one in each if isinstance(one[1], View)) if field.name == "fields" else ()
                )
                others = {one[0] for one in each}

                def with_view(new: Any, others: set[str] = others, whole: KernelUse = value) -> Any:
                    found = dict(new)
                    made = [(n, found[n] if n in others else v) for n, v in whole.fields]
                    return replace(whole, fields=tuple(made))

                yield from numbers(each, f"{name} {field.name}", lambda new, to=with_view: again(to(new)))
                continue
            own = f"{kind.__name__}.{field.name}"
            yield from numbers(each, own, lambda new, n=field.name: again(replace(value, **{n: new})))


def _is_the_same(value: Any, name: str) -> bool:
    """True of fields without a meaning where others are as they are."""
    match value:
        case For():
            return value.backward and name in ("fresh", "step")
        case Following():
            return name == "other" and not value.again
        case ByBlocks():
            return name == "mixed" and not value.mixed
        case View():
            return name == "col_stride" and (value.rows, value.row_stride) == (1, 4)  # of one number
        case _:
            return False


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_number_off_by_one_is_convicted(name: str) -> None:
    graph, plan, code = PROGRAMS[name]()
    assert check(graph, plan, code) == []
    count = 0
    for number in numbers(code, "", lambda new: new):
        for by in (1, -1):
            count += 1
            assert check(graph, plan, number.change(by)), (number.name, by)
    assert count > 30
