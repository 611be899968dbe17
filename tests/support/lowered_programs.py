# SPDX-License-Identifier: Apache-2.0
"""Lowered entries of all kinds, for faults to be planted into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from fused_c import request, staging
from mmcc.checker.entry import check_entry
from mmcc.checker.plan import check_plan
from mmcc.codegen.lower import lower_entry
from mmcc.ir.graph import Graph
from mmcc.ir.module import RUN, Entry
from mmcc.ir.plan import Plan
from mmcc.ir.program import EntryCode, Step
from mmcc.passes.stream_ports import stream_ports
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest
from mmcc.target import load_target
from one_group import two_halos
from planner_graphs import Build, kws

HOST = load_target("host")
Lowered = tuple[Graph, Plan, EntryCode]


def check(graph: Graph, plan: Plan, code: EntryCode) -> list[str]:
    return check_entry(Entry(RUN, graph), plan, code)


def lowered(graph: Graph, asked: PlanRequest) -> Lowered:
    plan = best_plan(graph, asked)
    assert check_plan(graph, plan) == []
    return graph, plan, lower_entry(Entry(RUN, graph), plan, HOST)


@cache
def strips() -> Lowered:
    """A Concat of three in a group in strips: the caller's image is whole, the others are rings."""
    b = Build("strips")
    image = b.input(20, 20, 4)
    narrow = b.conv(image, 4, 3)
    x = b.conv(b.concat(2, image, narrow, b.conv(narrow, 4, 3)), 4, 3)
    graph = b.graph(b.conv(x, 3, 5))
    found = lowered(graph, request(graph, external=True, recompute=8.0))
    assert any(len(group.strips) > 1 for group in found[1].groups)
    return found


@cache
def streams() -> Lowered:
    """An input that is made in the channels of a Concat, and one output of two that is a slice."""
    b = Build("streams")
    x = b.input(6, 5, 3)
    wide = b.conv(b.concat(2, x, b.conv(x, 4, 3)), 9, 3)
    graph = stream_ports(b.graph(b.slice(wide, (0, 0, 2), (6, 5, 4)), b.conv(wide, 2, 1)), again=False)
    return lowered(graph, request(graph, external=True, fuse=False))


@cache
def groups() -> Lowered:
    """Rings, demand-driven loops, and a mean that takes its rows in one by one."""
    b = Build("groups")
    x = b.conv(b.depthwise(b.conv(b.input(16, 9, 3), 24, 3), 3, 2), 24, 1)
    graph = b.graph(b.mean(b.sum(x, b.conv(x, 24, 3))))
    found = lowered(graph, request(graph))
    assert max(len(group.nodes) for group in found[1].groups) > 2
    assert found[1].accumulators
    return found


@cache
def shared() -> Lowered:
    """A group in strips with functions: several nodes ask for rows of one producer, and some for more."""
    graph = two_halos(3)
    found = lowered(graph, request(graph, external=True, recompute=8.0))
    (step,) = found[2].body
    assert isinstance(step, Step)
    assert len(step.functions) > 1
    assert len(found[1].groups[0].strips) > 1
    return found


@cache
def backward() -> Lowered:
    graph = kws()
    return lowered(graph, request(graph, fuse=False))


@cache
def staged(limit: int | None) -> Lowered:
    """Constants in slow memory: a few stay, others come in blocks."""
    b = Build("staged")
    x = b.input(10, 10, 16)
    for channels in (32, 24, 48, 16):
        x = b.conv(x, channels, 3)
    graph = b.graph(x)
    asked = replace(request(graph), staging=staging(graph, HOST, 1 << 20), limit=limit, effort=2.0)
    return lowered(graph, asked)


ALL: dict[str, Callable[[], Lowered]] = {
    "strips": strips,
    "streams": streams,
    "groups": groups,
    "shared": shared,
    "backward": backward,
    "staged": lambda: staged(None),
    "staged-again": lambda: staged(16_000),
}
