# SPDX-License-Identifier: Apache-2.0
"""Plans in two regions, with moves between: the generated C computes the bits of the plan in one."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fused_c import NAME, filled, request, run
from mmcc.checker.entry import check_entry
from mmcc.checker.plan import check_plan
from mmcc.checker.program import check_program
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower, lower_entry
from mmcc.codegen.weights import lay_out
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.program import Address, FetchedConstants
from mmcc.ir.regions import SRAM, Region
from mmcc.kernels.tilings import whole_size
from mmcc.planner.api import best_plan
from mmcc.planner.cost import plan_cost
from mmcc.planner.request import Constants
from mmcc.target import load_target
from moved_plans import SLOW, idle, in_second_region, skipping, spilled, wandering

pytestmark = pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"
)
GRAPH = filled(skipping(), 1)
MODULE = Module.of(GRAPH)


def layers() -> Plan:
    return best_plan(GRAPH, replace(request(GRAPH), fuse=False))


def header(plan: Plan, graph: Graph = GRAPH, name: str = f"{NAME}.h") -> str:
    host, module = load_target("host"), Module.of(graph)
    program = lower(module, MemoryPlan.of(plan), NAME, host)
    return emit(module, program, EmitOptions(NAME), host).files[name]


def sound(plan: Plan) -> Plan:
    assert check_plan(GRAPH, plan) == []
    program = lower(MODULE, MemoryPlan.of(plan), NAME, load_target("host"))
    assert check_program(MODULE, MemoryPlan.of(plan), program) == []
    return plan


@pytest.mark.quick
def test_there_are_buffers_to_move() -> None:
    assert len(list(idle(layers()))) >= 2


@pytest.mark.parametrize("fuse", [False, True])
def test_a_buffer_in_a_second_region(fuse: bool, tmp_path: Path) -> None:
    plan = best_plan(GRAPH, replace(request(GRAPH), fuse=fuse))
    want = run(GRAPH, plan, tmp_path / "one")
    for b in (b for b in plan.buffers if b.size):
        moved = sound(in_second_region(plan, b.name))
        assert moved.regions()[SLOW] == b.size
        assert run(GRAPH, moved, tmp_path / f"two{plan.buffers.index(b)}") == want, b


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_buffer_is_moved_out_and_back(asynchronous: bool, tmp_path: Path) -> None:
    plan = layers()
    want = run(GRAPH, plan, tmp_path / "one")
    for b in idle(plan):
        first, last = b.live.lo + 1, b.live.hi - 1
        times = [((first, first), (last, last))]
        if asynchronous:
            middle = (first + last) // 2
            times = [((first, middle), (middle, last)), ((first, first + 1), (last - 1, last))]
        for k, (out, back) in enumerate(times):
            moved = sound(spilled(plan, b.name, out, back))
            assert run(GRAPH, moved, tmp_path / f"moved{plan.buffers.index(b)}_{k}") == want, (b, out, back)


def test_an_output_comes_back_behind_the_last_step(tmp_path: Path) -> None:
    plan = layers()
    (output,) = (plan.slots[port.tensor].buffer for port in GRAPH.outputs)
    end = len(plan.groups)
    start = next(b.live.lo for b in plan.buffers if b.name == output) + 1
    moved = sound(spilled(plan, output, (start, start), (end, end)))
    assert run(GRAPH, moved, tmp_path / "moved") == run(GRAPH, plan, tmp_path / "one")


@pytest.mark.parametrize("fuse", [False, True])
def test_what_the_checker_lets_pass_keeps_the_bits(fuse: bool, tmp_path: Path) -> None:
    """Random moves: most are convicted; the others run, with copies as late as they may be."""
    plan = best_plan(GRAPH, replace(request(GRAPH), fuse=fuse))
    want = run(GRAPH, plan, tmp_path / "one")
    draw, passed = random.Random(5), list[Plan]()
    tried = [wandering(plan, draw) for _ in range(250)]
    passed = [moved for moved in tried if check_plan(GRAPH, moved) == []]
    assert 6 <= len(passed) <= 125
    for k, moved in enumerate(sorted(passed, key=lambda p: -len(p.transfers))[:6]):
        assert run(GRAPH, sound(moved), tmp_path / f"moved{k}") == want, moved


@pytest.mark.quick
def test_two_regions_have_macros_of_their_own() -> None:
    plan = layers()
    one, two = header(plan), header(in_second_region(plan, next(idle(plan)).name))
    assert "net_init(net_context *context, void *arena, size_t arena_size);" in one
    init = "void *sram_arena, size_t sram_arena_size, void *psram_arena, size_t psram_arena_size);"
    assert init in " ".join(two.split())
    assert "#define NET_PSRAM_ARENA_ALIGN 64u" in two
    assert "NET_SRAM_ARENA(name)" in two
    assert "NET_ARENA_SIZE" not in two
    assert "mmcc_moves.h" not in two


@pytest.mark.quick
def test_only_moves_in_the_background_need_callbacks() -> None:
    plan = layers()
    b = next(idle(plan))
    first, last = b.live.lo + 1, b.live.hi - 1
    blocking = spilled(plan, b.name, (first, first), (last, last))
    background = spilled(plan, b.name, (first, first + 1), (last, last))
    assert "net_move_with" not in header(blocking)
    assert "#define NET_MOVES 1u" in header(background)
    assert blocking.regions()[SRAM] > plan.peak(SRAM)


# stands for a cache: what is not whole lines takes bytes of others with it, and what is dropped is lost
LINES = """
#include <stdint.h>
#include <string.h>
#define MMCC_CACHE_CLEAN(address, bytes) whole_lines((address), (bytes))
#define MMCC_CACHE_INVALIDATE(address, bytes) whole_lines((address), (bytes))
static inline void whole_lines(const void *address, uint32_t bytes)
{
    if ((uintptr_t)address % 32u != 0u || bytes % 32u != 0u) {
        __builtin_trap();
    }
}
"""


def test_buffers_that_a_dma_copies_have_lines_of_the_cache_for_themselves(tmp_path: Path) -> None:
    graph = filled(skipping(1), 1)
    fast = Region("fast", 1550, align=32, cache_line=32)
    slow = Region("slow", align=32, read_cost=2.0, write_cost=3.0, cache_line=32)
    asked = replace(request(graph), fuse=False, by_region=True, background=True, cost={"call": 0.0})
    plan = best_plan(graph, replace(asked, regions=(fast, slow)))
    moves = [t.move for t in plan.transfers if t.move.asynchronous]
    assert moves
    assert check_plan(graph, plan) == []
    text = header(plan, graph, f"{NAME}.c")
    assert text.count("MMCC_CACHE_CLEAN(") == len(moves)
    assert text.count("MMCC_CACHE_INVALIDATE(") == 2 * len(moves)
    one = best_plan(graph, replace(request(graph), fuse=False))
    assert run(graph, plan, tmp_path / "lines", LINES) == run(graph, one, tmp_path / "one")
    tight = tuple(replace(b, size=b.size - 4) if b.name == moves[0].buffer else b for b in plan.buffers)
    assert any("shares lines of 32 bytes" in text for text in check_plan(graph, replace(plan, buffers=tight)))


def fetching(regions: tuple[Region, ...]) -> Plan:
    """Every node's constants may be copied; some have no room in the first region."""
    host = load_target("host")
    sizes = {index: whole_size(GRAPH, index, host) for index in range(len(GRAPH.nodes))}
    asked = replace(
        request(GRAPH),
        by_region=True,
        regions=regions,
        fetchable={index: Constants(size, 50.0) for index, size in sizes.items() if size},
        constants_cost=2.0,
    )
    return sound(best_plan(GRAPH, asked))


def test_constants_are_found_where_they_were_copied_to(tmp_path: Path) -> None:
    want = run(GRAPH, layers(), tmp_path / "one")
    slow = replace(SLOW, read_cost=0.5, write_cost=0.5)
    for k, size in enumerate((700, 1500, 4000)):
        plan = fetching((Region("fast", size), slow))
        assert {place.region for place in map(plan.place_at, plan.fetched.values(), steps_of(plan))} <= {
            *plan.regions()
        }
        assert plan.fetched
        assert run(GRAPH, plan, tmp_path / f"fetched{k}") == want


@pytest.mark.quick
def test_constants_lie_where_the_plan_has_them_in_whatever_order_nodes_run() -> None:
    """With branches that is not the graph's own order, which their places are in."""
    plan = fetching((Region("fast", 4000), replace(SLOW, read_cost=0.5, write_cost=0.5)))
    nodes = lower_entry(MODULE.entries[0], plan, load_target("host")).nodes
    assert sum(node.fetched is not None for node in nodes) > 2
    fetched = [f"{node.label}_" for node in nodes if node.fetched is not None]
    first, *others = (
        {a.constant.name: a.offset for a in lay_out(order).arrays if a.constant.name.startswith((*fetched,))}
        for order in (nodes, nodes[::-1], nodes[1::2] + nodes[::2])
    )
    assert len(first) > len(fetched)
    assert all(other == first for other in others)


def steps_of(plan: Plan) -> list[int]:
    """The step of each node whose constants are copied."""
    steps = {index: step for step, group in enumerate(plan.groups) for index in group.nodes}
    return [steps[index] for index in plan.fetched]


@pytest.mark.quick
def test_constants_that_are_not_where_a_node_looks_are_convicted() -> None:
    plan = fetching((Region("fast", 1500), replace(SLOW, read_cost=0.5, write_cost=0.5)))
    (index, name), *_ = plan.fetched.items()
    (number,) = (k for k, t in enumerate(plan.transfers) if t.move.buffer == name)
    left_out = replace(plan, transfers=(*plan.transfers[:number], *plan.transfers[number + 1 :]))
    assert any("not yet copied" in text for text in check_plan(GRAPH, left_out))
    move = plan.transfers[number].move
    moved = replace(move, source=replace(move.source, offset=move.source.offset + 16))
    transfers = tuple(replace(t, move=moved) if t.move == move else t for t in plan.transfers)
    elsewhere = replace(plan, transfers=transfers, places=plan.places | {name: moved.source})
    others = [other for other in plan.fetched.values() if other != name]
    assert not others or check_plan(GRAPH, elsewhere), "it is where another's constants are"
    entry, host = MODULE.entries[0], load_target("host")
    code = lower_entry(entry, plan, host)
    assert check_entry(entry, plan, code) == []
    for changed in (
        None,
        replace(code.nodes[0].fetched or FetchedConstants(0, Address("fast", 0), 0), bytes=8),
    ):
        nodes = tuple(replace(n, fetched=changed) if n.index == index else n for n in code.nodes)
        wrong = check_entry(entry, plan, replace(code, nodes=nodes))
        assert any("constants of" in text and "but the plan has" in text for text in wrong)


@pytest.mark.quick
def test_moves_that_block_cost_what_their_regions_do() -> None:
    plan = layers()
    b = next(idle(plan))
    first, last = b.live.lo + 1, b.live.hi - 1
    blocking = spilled(plan, b.name, (first, first), (last, last))
    background = spilled(plan, b.name, (first, first + 1), (last - 1, last))
    alone = plan_cost(GRAPH, plan, {})
    assert SLOW.write_cost is not None
    assert plan_cost(GRAPH, blocking, {}) == alone + b.size * (SLOW.read_cost + SLOW.write_cost)
    assert plan_cost(GRAPH, background, {}) == alone
