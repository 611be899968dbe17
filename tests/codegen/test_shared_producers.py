# SPDX-License-Identifier: Apache-2.0
"""Producers that several nodes of a group read: their code is there once, and runs in the plan's order."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from c_format import would_change
from elftools.elf.elffile import ELFFile
from fused_c import filled, request, run
from kernel_calls import KernelCall, kernel_calls
from mmcc.checker.plan import check_plan
from mmcc.checker.program_run import Made, run_step
from mmcc.codegen.demand_driven import DEEPEST
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import Group, MemoryPlan, Plan
from mmcc.ir.program import Call, For, MakeRows, Program, Step, Stmt
from mmcc.planner.api import best_plan
from mmcc.planner.fusion.schedule import needs
from mmcc.target import Target, load_target
from mmcc.toolchain import compile_objects, measure
from one_group import diamonds, one_group, random_dag, two_halos
from planner_graphs import Build
from toolchains import ready

with_compiler = pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"
)
HOST = load_target("host")


def lowered(graph: Graph, plan: Plan) -> tuple[Program, Step]:
    program = lower(Module.of(graph), MemoryPlan.of(plan), "net", HOST)
    (step,) = program.entries[0].body
    assert isinstance(step, Step)
    return program, step


def statements(step: Step) -> Iterator[Stmt]:
    def inside(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
        for statement in body:
            yield statement
            if isinstance(statement, For):
                yield from inside(statement.body)

    for body in (*(function.body for function in step.functions), step.body):
        yield from inside(body)


def calls(step: Step) -> list[tuple[int, int]]:
    """Node and row of all calls of kernels, in order."""
    return [(made.node, row) for made in run_step(step) if isinstance(made, Made) for row in made.rows]


def due(graph: Graph, group: Group) -> list[tuple[int, int]]:
    def rows(call: KernelCall) -> range:
        return range(call.begin, call.end)

    return [(call.node, row) for call in kernel_calls(graph, group) for row in rows(call)]


# ---- size


@pytest.mark.quick
@pytest.mark.parametrize("blocks", [diamonds, two_halos])
def test_code_and_time_grow_with_the_nodes(blocks) -> None:
    """As a tree of demands, 48 diamonds were 2^48 loops."""
    spent: dict[int, float] = {}
    texts: dict[int, int] = {}
    for count in (12, 24, 48):
        graph = blocks(count)
        plan = one_group(graph)
        start = time.process_time()
        program, step = lowered(graph, plan)
        assert calls(step) == due(graph, plan.groups[0])
        texts[count] = len(emit(Module.of(graph), program, EmitOptions("net"), HOST).files["net.c"])
        spent[count] = time.process_time() - start
        found = Counter(s.node for s in statements(step) if isinstance(s, Call))
        assert found.keys() == set(plan.groups[0].nodes)
        assert sum(found.values()) <= len(graph.nodes) + 1, "what asks for nothing may be there twice"
    assert texts[48] - texts[24] < 2.4 * (texts[24] - texts[12]), texts
    assert spent[48] < 6 * spent[12] + 0.5, spent


@pytest.mark.quick
def test_loops_are_not_deeper_than_compilers_promise() -> None:
    b = Build("deep")
    x = b.input(4, 4, 1)
    for _ in range(3 * DEEPEST):
        x = b.conv(x, 1, 1)
    graph = b.graph(x)
    plan = one_group(graph)
    _, step = lowered(graph, plan)

    def depth(body: tuple[Stmt, ...]) -> int:
        return max((1 + depth(s.body) for s in body if isinstance(s, For)), default=0)

    assert max(depth(body) for body in (step.body, *(f.body for f in step.functions))) <= DEEPEST + 1
    assert len(step.functions) == 2
    assert calls(step) == due(graph, plan.groups[0])


# ---- order


@pytest.mark.quick
def test_calls_come_in_the_order_of_the_schedule() -> None:
    """Whatever demands are left out, and whatever is a function: each row is made when it was due."""
    functions = 0
    for seed in range(120):
        draw = random.Random(seed)
        graph = random_dag(draw)
        inner = range(len(graph.nodes) - 1)
        drained = tuple(sorted(draw.sample(inner, draw.randint(0, 2))))
        plan = one_group(graph, draw.choice([0, 1, 1, 1, 2, 3]), drained)
        _, step = lowered(graph, plan)
        assert calls(step) == due(graph, plan.groups[0]), seed
        functions += len(step.functions)
        loops = sum(isinstance(s, For | MakeRows) for s in statements(step))
        asked = sum(len(some) for some in needs(graph, plan.groups[0], frozenset()).values())
        assert loops <= asked + len(step.functions) + len(drained) + 1
    assert functions > 50


@pytest.mark.quick
@pytest.mark.parametrize("swapped", [False, True])
def test_a_residual_needs_no_function(swapped: bool) -> None:
    """x + f(x): f asks for at least the rows of x that the sum does, which need no loop of their own."""
    b = Build("residual")
    x = b.conv(b.input(8, 8, 4), 4, 3)
    for _ in range(5):
        y = b.conv(b.depthwise(b.conv(x, 8, 1), 3), 4, 1)
        x = b.sum(y, x) if swapped else b.sum(x, y)
    graph = b.graph(x)
    _, step = lowered(graph, one_group(graph))
    assert not step.functions
    assert sum(isinstance(s, For) for s in statements(step)) == len(graph.nodes)


# ---- bits


@with_compiler
@pytest.mark.parametrize("floats", [False, True], ids=["int8", "float"])
def test_the_same_bits_as_without_groups(floats: bool, tmp_path: Path) -> None:
    """With whole tensors, and with rings in strips: functions must know which strip it is."""
    graph = filled(two_halos(3, floats=floats), 7)
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "alone")
    assert len(set(expected)) > 1
    strips = best_plan(graph, request(graph, external=True, recompute=8.0))
    assert max(len(group.strips) for group in strips.groups) > 1
    for name, plan in (("whole", one_group(graph)), ("strips", strips)):
        assert check_plan(graph, plan) == []
        program = lower(Module.of(graph), MemoryPlan.of(plan), "net", HOST)
        assert sum(len(s.functions) for s in program.entries[0].body if isinstance(s, Step)) > 1
        assert run(graph, plan, tmp_path / name) == expected


@with_compiler
@pytest.mark.parametrize("seed", range(3))
def test_random_graphs(seed: int, tmp_path: Path) -> None:
    """With nodes whose last rows are made at the end."""
    draw = random.Random(seed)
    graph = filled(random_dag(draw), seed)
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "alone")
    drained = tuple(sorted(draw.sample(range(len(graph.nodes) - 1), 2)))
    plan = one_group(graph, 2, drained)
    assert check_plan(graph, plan) == []
    assert run(graph, plan, tmp_path / "fused") == expected


# ---- views


@pytest.mark.quick
def test_views_are_walked_as_a_graph() -> None:
    """A Concat of two views of a Concat of two views ...: 40 levels were 2^40 ways to the input."""
    b = Build("views")
    x = b.conv(b.input(6, 4, 4), 4, 3)
    for _ in range(40):
        x = b.concat(2, b.slice(x, (0, 0, 0), (6, 4, 2)), b.slice(x, (0, 0, 2), (6, 4, 2)))
    graph = b.graph(b.conv(x, 2, 3))
    plan = best_plan(graph, request(graph, fuse=False))
    assert check_plan(graph, plan) == []
    last = len(graph.nodes) - 1
    found = needs(graph, Group((0, last), tile_rows=1), frozenset(range(1, last)))
    assert [need.rows for need in found[last]] == [(2, 3, 4, 5, 6, 6)]


# ---- the C


def package(graph: Graph, plan: Plan, folder: Path, target: Target) -> list[Path]:
    program = lower(Module.of(graph), MemoryPlan.of(plan), "net", target)
    made = emit(Module.of(graph), program, EmitOptions("net"), target)
    for name, text in made.files.items():
        (folder / name).write_text(text)
    return sorted(folder.glob("*.[ch]"))


@pytest.mark.quick
def test_functions_are_laid_out_as_all_else(tmp_path: Path) -> None:
    graph = two_halos(3)
    strips = best_plan(graph, request(graph, external=True, recompute=8.0))
    for plan in (strips, one_group(graph)):
        files = package(graph, plan, tmp_path, HOST)
        text = (tmp_path / "net.c").read_text()
        assert ("int32_t strip, int32_t until)" in text) == (plan is strips)
        assert would_change(files) == ""


@pytest.mark.parametrize("name", ["cortex-m4", "rv32imac"])
def test_functions_are_where_the_attribute_says_and_have_a_stack_bound(name: str, tmp_path: Path) -> None:
    target, graph = ready(name), two_halos(3)
    package(graph, one_group(graph), tmp_path, target)
    sources = sorted(tmp_path.glob("*.c"))
    moved = ['-DNET_CODE_ATTRIBUTE=__attribute__((section(".itcm")))']
    placed = compile_objects(target, sources, tmp_path / "moved", include_dirs=[tmp_path], flags=moved)
    found = {section for path in placed for section in sections(path)}
    assert not any("make_n" in section or "run" in section for section in found), found
    objects = compile_objects(target, sources, tmp_path / "plain", include_dirs=[tmp_path])
    assert any("make_n" in section for path in objects for section in sections(path))
    bound = measure(target, objects, ["net_init", "net_run"], tmp_path / "plain").stack["net_run"]
    assert not bound.assumed
    assert 0 < bound.bytes < 1000


def sections(path: Path) -> list[str]:
    with path.open("rb") as stream:
        return [section.name for section in ELFFile(stream).iter_sections() if section["sh_flags"] & 4]
