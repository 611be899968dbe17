# SPDX-License-Identifier: Apache-2.0
"""Weights that are read while the model runs, in several memories: never other bits, whatever is where."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fused_c import filled, request, run, staging
from mmcc.checker.plan import check_plan
from mmcc.codegen.staged import staged_for
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.ir.plan import BufferKind, Plan
from mmcc.ir.regions import SRAM, Region
from mmcc.planner.api import best_plan
from mmcc.planner.cost import read_of
from mmcc.planner.regions.search import floor_cost
from mmcc.target import load_target
from moved_plans import skipping
from planner_graphs import Build
from staged_runs import random_net, run_sanitized, run_staged, staged_request

pytestmark = pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"
)
FAST, SLOW = Region("fast", align=16), Region("psram", align=64, read_cost=4.0, write_cost=4.0)


def in_two(graph: Graph, fast: int, **more: object) -> Plan:
    """The plan with staged weights, so many bytes of fast memory, and slow memory without a limit."""
    regions = (replace(FAST, size=fast), SLOW)
    return best_plan(graph, staged_request(graph, regions=regions, by_region=True, **more))


def staged_in(plan: Plan) -> set[str]:
    """The memories that constants come to."""
    kind = {b.name: b.kind for b in plan.buffers}
    return {str(at.region) for name, at in plan.places.items() if kind[name] is BufferKind.STAGED}


def predicted_reads(graph: Graph, plan: Plan) -> int:
    return sum(read_of(graph, plan).values())


@pytest.mark.parametrize(("floats", "part"), [(False, 2), (True, 4)], ids=["int8", "float"])
def test_random_nets_in_two_memories(floats: bool, part: int, tmp_path: Path) -> None:
    """With moves in the background, in a part of what one memory takes; the test bench reads and copies as
    late as it may."""
    graph = random_net(part, floats=floats)
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "at_hand")
    whole = best_plan(graph, staged_request(graph)).peak(SRAM)
    plan = in_two(graph, whole // part, background=True)
    assert check_plan(graph, plan) == []
    assert {region.name for region in plan.regions()} == {"fast", "psram"}
    found, read = run_staged(graph, plan, tmp_path / "two")
    assert found == expected, (str(graph), plan.groups, plan.staged)
    assert read == predicted_reads(graph, plan), (plan.groups, plan.staged)


@pytest.mark.parametrize("floats", [False, True], ids=["int8", "float"])
def test_sanitizers_see_no_fault(floats: bool, tmp_path: Path) -> None:
    """Each arena has memory of its own; what is moved or read is garbage until it is waited for."""
    graph = random_net(5, floats=True) if floats else filled(skipping(), 1)
    plan = in_two(graph, 2048 if floats else 800, background=True)
    assert staged_in(plan) == {"fast", "psram"}
    assert floats or any(transfer.move.asynchronous for transfer in plan.transfers)
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "at_hand")
    assert run_sanitized(graph, plan, tmp_path / "two") == b"".join(expected)


@pytest.mark.quick
def test_constants_come_to_both_memories(tmp_path: Path) -> None:
    """Each block is read to the memory that the plan says, and found there."""
    graph = random_net(1, floats=True)
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "at_hand")
    plans = (in_two(graph, fast) for fast in range(2048, 16384, 1024))
    both = next(plan for plan in plans if len(staged_in(plan)) == 2)
    assert run_staged(graph, both, tmp_path / "both")[0] == expected


@pytest.mark.quick
def test_a_twin_has_the_constants_of_a_group_in_one_memory(tmp_path: Path) -> None:
    """Those of an average pool, too, which on a Cortex-M55 has none."""
    b = Build("pools")
    x = b.pool(b.conv(b.conv(b.input(12, 10, 3), 16, 3), 16, 3), 2)
    graph = filled(b.graph(b.conv(b.conv(x, 24, 3), 40, 1)), 3)
    blocks = staging(graph, load_target("cortex-m55"), 1 << 20)
    asked = staged_request(graph, regions=(replace(FAST, size=1024), SLOW), by_region=True)
    plan = best_plan(graph, replace(asked, staging=blocks))
    twin = staged_for(graph, plan, load_target("host"))
    groups = [[twin.staged[index].buffers for index in g.nodes if index in twin.staged] for g in twin.groups]
    memories = [{str(twin.places[n].region) for names in group for n in names} for group in groups]
    assert memories == [{"psram"}, {"fast"}, {"fast"}]
    assert len(groups[1]) == 2, "the pool is in the group of another layer"
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "at_hand")
    assert run_staged(graph, twin, tmp_path / "twin")[0] == expected


@pytest.mark.quick
def test_slow_memory_is_only_used_where_fast_memory_does_not_do() -> None:
    graph = random_net(2, floats=True)
    plan = in_two(graph, 1 << 20)
    assert {region.name for region in plan.regions()} == {"fast"}
    smaller = in_two(graph, plan.peak(next(iter(plan.regions()))) // 2)
    assert {region.name for region in smaller.regions()} == {"fast", "psram"}
    assert smaller.cost > plan.cost


@pytest.mark.quick
def test_no_plan_costs_less_than_the_floor() -> None:
    """Constants of a node are the fewest bytes in some tiling, not always in that of the smallest blocks."""
    graph = random_net(1, floats=False)
    asked = staged_request(graph, regions=(replace(FAST, size=1 << 20), SLOW), by_region=True)
    assert asked.staging is not None
    totals = [[blocks.total for blocks in some] for some in asked.staging.tilings.values()]
    assert any(min(some) < some[0] for some in totals)
    assert floor_cost(graph, asked) <= best_plan(graph, asked).cost


@pytest.mark.quick
def test_too_little_of_both_is_not_called_impossible() -> None:
    """Other ways to stage constants may fit: only the least is known that was found."""
    graph = random_net(0, floats=True)
    regions = (replace(FAST, size=256), replace(SLOW, size=1024))
    with pytest.raises(CompileError) as error:
        best_plan(graph, staged_request(graph, regions=regions, by_region=True))
    assert error.value.code == "MM041"
