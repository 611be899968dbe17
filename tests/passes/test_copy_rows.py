# SPDX-License-Identifier: Apache-2.0
"""Rows of what waits in slow memory, copied to fast memory for those that read them often: the same bits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mmcc
import numpy as np
import onnx
import pytest
from frontend_models import model_of
from fused_c import conv, filled, request, run
from mmcc.checker.plan import check_plan
from mmcc.driver.laid import Laid
from mmcc.driver.row_copies import with_row_copies
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.plan import BufferKind, Plan
from mmcc.ir.regions import Region
from mmcc.ir.types import Tensor
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.movement import Expand
from mmcc.ops.topk import TopK
from mmcc.passes.copy_rows import copy_rows
from mmcc.planner.api import best_plan
from mmcc.planner.regions.search import floor_cost
from mmcc.planner.request import PlanRequest
from mmcc.report.memories import cost_text, least_text
from onnx import helper
from planner_graphs import Build
from toolchains import ready

FAST, SLOW = Region("fast"), Region("psram", align=64, read_cost=4.0, write_cost=4.0)


def net() -> Graph:
    """Float convolutions, and a sum of what lies before and behind them."""
    b = Build("net")
    x = conv(b, b.input(12, 9, 3, dtype=ElementType.F32), 16, 3, floats=True)
    y = conv(b, conv(b, x, 16, 3, floats=True), 16, 3, floats=True)
    return filled(b.graph(conv(b, b.add(Binary("add"), x, y), 4, 1, floats=True)), 3)


def in_two(graph: Graph, fast: int, **more: object) -> PlanRequest:
    regions = (replace(FAST, size=fast), SLOW)
    return replace(request(graph), regions=regions, by_region=True, **more)


def laid(graph: Graph, asked: PlanRequest) -> Laid:
    return Laid(graph, asked, best_plan(graph, asked))


@pytest.mark.quick
def test_only_the_reads_that_are_named_are_of_a_copy() -> None:
    graph = net()
    x = next(name for name, readers in graph.consumers.items() if len(readers) == 2)
    first, second = graph.consumers[x]
    other = copy_rows(graph, {(x, second.output)})
    assert [node.op for node in other.nodes if isinstance(node.op, Expand)] == [
        Expand(graph.tensors[x].shape)
    ]
    readers = {node.output: node.inputs for node in other.nodes}
    assert x in readers[first.output]
    assert x not in readers[second.output]
    sample = np.random.default_rng(0).standard_normal((12, 9, 3)).astype(np.float32)
    values = [evaluate_tensors(g, {g.inputs[0].tensor: sample}) for g in (graph, other)]
    for port in graph.outputs:
        assert np.array_equal(values[0][port.tensor], values[1][port.tensor])


@pytest.mark.quick
def test_of_a_node_with_two_results_the_first_names_it() -> None:
    b = Build("net")
    x = b.input(4, 8, dtype=ElementType.F32)
    graph = b.graph(b.add(Unary("sqrt"), x))
    first, second = TopK(2).results(graph.tensors[x])
    made = {name: Tensor(name, *result) for name, result in (("best", first), ("where", second))}
    node = Node(TopK(2), (x,), tuple(made))
    graph = replace(graph, tensors=graph.tensors | made, nodes=(*graph.nodes, node))
    assert copy_rows(graph, ()).nodes == graph.nodes
    other = copy_rows(graph, {(x, "best")})
    assert [n.inputs == (x,) for n in other.nodes] == [True, True, False]
    regions = (replace(FAST, size=64), SLOW)
    asked = replace(request(graph), regions=regions, by_region=True, loads={1: 100.0})
    before = laid(graph, asked)
    assert with_row_copies(before, lambda _: pytest.fail("planned again")) is before


@pytest.mark.quick
def test_copies_that_would_be_in_slow_memory_are_not_made() -> None:
    """Where there is not the room for all rings, a copy of the others is work for nothing."""
    graph = net()
    tried: list[Graph] = []

    def ask(other: Graph) -> PlanRequest:
        tried.append(other)
        return in_two(other, 1200)

    after = with_row_copies(laid(graph, in_two(graph, 1200)), ask)
    every = tried[0]
    assert 0 < len(after.row_copies) < len(every.nodes) - len(graph.nodes)
    assert after.plan.cost < best_plan(every, in_two(every, 1200)).cost
    for node in after.graph.nodes:
        if isinstance(node.op, Expand):
            source, copy = (after.plan.slots[name].buffer for name in (*node.inputs, *node.outputs))
            assert [str(after.plan.places[b].region) for b in (source, copy)] == ["psram", "fast"]


@pytest.mark.quick
def test_what_is_proved_is_of_plans_with_the_same_copies() -> None:
    """One with others may cost less than any without, so the words say which plans are meant."""
    graph = net()
    for fast, copied in ((1200, True), (1600, False)):
        before = laid(graph, in_two(graph, fast))
        after = with_row_copies(before, lambda g, fast=fast: in_two(g, fast))
        assert bool(after.row_copies) == copied
        assert (after.plan.cost < before.plan.least_cost) == copied
        alone = best_plan(after.graph, in_two(after.graph, fast))
        assert (after.plan.least_cost, after.plan.cheapest) == (alone.least_cost, alone.cheapest)
        entry = {"cost": after.plan.cost, "least_cost": after.plan.least_cost, "cost_unit": "cycles"}
        said = cost_text(entry | {"cheapest": after.plan.cheapest}, len(after.row_copies))
        assert ("of plans of the graph as it is" in said) != copied
        assert ("of plans with rows of the same" in said) == copied


@pytest.mark.quick
def test_rings_are_within_the_fewest_bytes_of_fast_memory() -> None:
    """These are needed for a dense layer; the convolution behind it has them for rows of what waits."""
    b = Build("wide")
    x = conv(b, b.input(1, 1, 256, dtype=ElementType.F32), 384, 1, floats=True)
    graph = filled(b.graph(conv(b, b.reshape(x, 8, 4, 12), 8, 3, floats=True)), 3)

    def ask(other: Graph) -> PlanRequest:
        regions = (replace(FAST, size=1 << 20), replace(SLOW, size=1700))
        return replace(in_two(other, 0), regions=regions, least=("fast",))

    before = laid(graph, ask(graph))
    after = with_row_copies(before, ask)
    assert before.plan.proved_optimal
    assert after.row_copies
    assert after.plan.cost < 0.6 * before.plan.cost
    assert check_plan(after.graph, after.plan) == []
    assert after.plan.regions() == before.plan.regions()
    assert (after.plan.bounds, after.plan.proved_optimal) == (before.plan.bounds, True)
    assert after.request.least == ("fast",)


@pytest.mark.quick
def test_the_fewest_bytes_of_slow_memory_are_those_of_the_graph_as_it_is() -> None:
    """With rows copied it may take fewer, as its output is put over what nobody reads any more: so what was
    proved without is not said of all plans."""
    b = Build("few")
    graph = filled(b.graph(conv(b, b.input(8, 4, 4, dtype=ElementType.F32), 4, 3, floats=True)), 3)

    def ask(other: Graph) -> PlanRequest:
        regions = (replace(FAST, size=256), replace(SLOW, size=1024))
        return replace(in_two(other, 0), regions=regions, least=(SLOW.name,))

    def said(plan: Plan, copies: int) -> str:
        return least_text({"proved_optimal": plan.proved_optimal, "bounds": plan.bounds}, copies)

    before = laid(graph, ask(graph))
    assert said(before.plan, 0) == "proved least of psram"
    after = with_row_copies(before, ask)
    assert len(after.row_copies) == 1
    assert after.plan.regions()[ask(graph).regions[1]] < before.plan.bounds[SLOW.name]
    bytes_of = f"{before.plan.bounds[SLOW.name]:,}"
    assert said(after.plan, 1) == (
        f"within what is proved least of psram ({bytes_of}), of plans of the graph as it is"
    )
    unsure = replace(after.plan, proved_optimal=False)
    assert said(unsure, 1) == f"best found: psram none below {bytes_of}, of plans of the graph as it is"


@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler")
def test_rows_are_copied_to_rings_in_fast_memory_with_the_same_bits(tmp_path: Path) -> None:
    graph = net()
    asked = in_two(graph, 3000)
    before = laid(graph, asked)
    after = with_row_copies(before, lambda g: in_two(g, 3000))
    plan = after.plan
    assert plan.cost < 0.9 * before.plan.cost
    assert floor_cost(graph, asked) <= plan.least_cost <= plan.cost
    assert check_plan(after.graph, plan) == []
    copies = [k for k, node in enumerate(after.graph.nodes) if isinstance(node.op, Expand)]
    assert copies
    for index in copies:
        node = after.graph.nodes[index]
        source, ring = (plan.slots[name].buffer for name in (*node.inputs, *node.outputs))
        assert (plan.places[source].region.name, plan.places[ring].region.name) == ("psram", "fast")  # pyright: ignore
        assert next(b.kind for b in plan.buffers if b.name == ring) is BufferKind.RING
    alone = best_plan(graph, replace(request(graph), fuse=False))
    assert run(after.graph, plan, tmp_path / "copied") == run(graph, alone, tmp_path / "alone")


@pytest.mark.quick
@pytest.mark.parametrize("what", ["one memory", "all in fast memory", "as little as possible"])
def test_a_graph_stays_as_it_is_where_copies_save_nothing(what: str) -> None:
    graph = net()
    asked = {
        "one memory": request(graph),
        "all in fast memory": in_two(graph, 1 << 20),
        "as little as possible": in_two(graph, 3000, least=("fast",)),
    }[what]
    before = laid(graph, asked)
    assert with_row_copies(before, lambda _: pytest.fail("planned again")) is before


def test_a_package_with_copies_is_compared_node_by_node(tmp_path: Path) -> None:
    ready("cortex-m33")
    rng = np.random.default_rng(1)
    nodes, weights, channels = [], {}, 3
    for k, filters in enumerate((24, 24, 4)):
        weights[f"w{k}"] = (0.2 * rng.standard_normal((filters, channels, 3, 3))).astype(np.float32)
        nodes.append(helper.make_node("Conv", [f"x{k}", f"w{k}"], [f"x{k + 1}"], pads=[1] * 4))
        channels = filters
    onnx.save(
        model_of(nodes, {"x0": np.zeros((1, 3, 12, 12), np.float32)}, ["x3"], weights), tmp_path / "net.onnx"
    )
    made = mmcc.compile_model(
        tmp_path / "net.onnx", tmp_path / "net", target="rp2350", ram="sram=8K,psram=1M"
    )
    assert made.report["row_copies"]
    assert "go to faster memory as they are read" in (tmp_path / "net" / "report.txt").read_text()
    found = mmcc.verify(tmp_path / "net", per_node=True)
    assert found["ok"]
    assert len(found["per_node"]) == 3
