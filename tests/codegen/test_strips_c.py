# SPDX-License-Identifier: Apache-2.0
"""Compiled C where memory is narrower or wider than rows: strips of columns, and streams into views."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fused_c import conv, filled, request, run
from mmcc.checker.plan import check_plan
from mmcc.codegen.lower import lower
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.program import Call, For, Stmt
from mmcc.ops.movement import Concat, Pad
from mmcc.ops.resize import ResizeNearest
from mmcc.passes.stream_ports import stream_ports
from mmcc.planner.api import best_plan
from mmcc.planner.fusion.schedule import strip_columns
from mmcc.target import load_target
from planner_graphs import Build

pytestmark = pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"
)


def joined(operands: int, axis: int, *, floats: bool) -> Graph:
    """Concat of branches that need different columns: the image is whole, others have more readers."""
    b = Build("joined")
    image = b.input(24, 24, 4, dtype=ElementType.F32 if floats else ElementType.I8)
    parts = [image]
    for k in range(operands - 1):
        parts.append(conv(b, parts[-1] if k % 2 else image, 4, (1, 3, 5)[k % 3], floats=floats))
    x = conv(b, b.concat(axis, *parts), 4, 3, floats=floats)
    return b.graph(conv(b, x, 3, 5, floats=floats))


def calls(body: tuple[Stmt, ...]) -> list[Call]:
    found: list[Call] = []
    for statement in body:
        if isinstance(statement, Call):
            found.append(statement)
        elif isinstance(statement, For):
            found += calls(statement.body)
    return found


@pytest.mark.parametrize(("operands", "floats"), [(2, False), (6, True)], ids=["two-int8", "six-float"])
@pytest.mark.parametrize("axis", [0, 2], ids=["rows", "channels"])
def test_concats_in_strips(operands: int, axis: int, floats: bool, tmp_path: Path) -> None:
    """Every operand of a Concat in strips has an origin of its own."""
    graph = filled(joined(operands, axis, floats=floats), operands)
    alone = best_plan(graph, request(graph, fuse=False))
    plan = in_strips(graph)
    assert check_plan(graph, plan) == []
    index = next(k for k, node in enumerate(graph.nodes) if isinstance(node.op, Concat))
    program = lower(Module.of(graph), MemoryPlan.of(plan), "net", load_target("host"))
    origins = {
        c.inputs
        for step in program.entries[0].body
        for call in calls(step.body)
        for c in call.columns
        if call.node == index
    }
    assert any(len(set(inputs)) > 1 for inputs in origins), (origins, plan.groups)
    assert run(graph, plan, tmp_path / "strips") == run(graph, alone, tmp_path / "alone")


def test_strips_that_are_padding_only(tmp_path: Path) -> None:
    """Such a strip needs no column of what is padded, and so none of what that is made of."""
    b = Build("padded")
    x = b.conv(b.conv(b.input(16, 8, 4), 8, 3), 8, 3)
    x = b.add(ResizeNearest(tuple(range(16)), tuple(k // 2 for k in range(16))), x)
    padded = b.add(Pad((0, 9, 0), (0, 11, 0), value=3), x)
    graph = filled(b.graph(b.conv(padded, 2, 3)), 4)
    alone = best_plan(graph, request(graph, fuse=False))
    plan = in_strips(graph)
    assert check_plan(graph, plan) == []
    index = next(k for k, node in enumerate(graph.nodes) if isinstance(node.op, Pad))
    (group,) = (group for group in plan.groups if index in group.nodes)
    held = [strip_columns(graph, group, strip.columns) for strip in group.strips]
    assert any(not len(columns[graph.nodes[index].inputs[0]]) for columns in held)
    assert run(graph, plan, tmp_path / "strips") == run(graph, alone, tmp_path / "alone")


def in_strips(graph: Graph) -> Plan:
    """Input and output are the caller's, and more work is allowed than whole rows need."""
    plan = best_plan(graph, request(graph, external=True, recompute=8.0))
    assert max(len(group.strips) for group in plan.groups) > 1
    return plan


@pytest.mark.parametrize(("floats", "again"), [(False, True), (True, False)], ids=["int8", "float"])
@pytest.mark.parametrize("fuse", [False, True], ids=["whole", "groups"])
def test_streams_into_and_out_of_channels_of_others(
    floats: bool, again: bool, fuse: bool, tmp_path: Path
) -> None:
    """Callbacks bring and take dense pixels; inputs made in a Concat and sliced outputs are not dense."""
    b = Build("streams")
    dtype = ElementType.F32 if floats else ElementType.I8
    a, c = b.input(9, 7, 3, dtype=dtype), b.input(9, 7, 2, dtype=dtype)
    wide = conv(b, b.concat(2, a, c, conv(b, a, 4, 3, floats=floats)), 12, 3, floats=floats)
    parts = [b.slice(wide, (0, 0, start), (9, 7, size)) for start, size in ((0, 5), (5, 7))]
    graph = filled(b.graph(*parts, conv(b, wide, 4, 1, floats=floats)), 5)
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "arena")
    streamed = stream_ports(graph, again=again)
    plan = best_plan(streamed, request(streamed, external=True, fuse=fuse))
    assert check_plan(streamed, plan) == []
    assert run(streamed, plan, tmp_path / "streams") == expected
