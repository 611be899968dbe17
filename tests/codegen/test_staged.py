# SPDX-License-Identifier: Apache-2.0
"""Weights that are read while the model runs: the bits of the plan that has them at hand, and no byte more
read than reported."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import mmcc
import numpy as np
import onnx
import pytest
from frontend_models import model_of
from fused_c import NAME, conv, filled, request, run, staging
from mmcc.checker.entry import check_entry
from mmcc.checker.plan import check_plan
from mmcc.codegen.lower import lower, lower_entry, weights_file
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.ir.channels import channel_axes
from mmcc.ir.element_type import ElementType
from mmcc.ir.module import RUN, Entry, Module
from mmcc.ir.plan import Blocks, MemoryPlan
from mmcc.ir.regions import SRAM
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.planner.api import best_plan
from mmcc.planner.cost import read_of
from mmcc.planner.request import Staging
from mmcc.planner.streaming.blocks import Price, StreamingChoices
from mmcc.target import load_target
from onnx import helper
from op_case import OpCase
from op_cases_float_layers import convolutions, matrices, transposed_convolutions
from op_cases_int8_layers import conv_cases, depthwise_cases, pointwise_cases, transposed_cases
from planner_graphs import Build
from shared_models import model_path, needs_shared
from staged_runs import HOST, random_net, run_staged, staged_request
from toolchains import ready

pytestmark = pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"
)


TOGETHER = 12  # cases of operators in one model


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("floats", [False, True], ids=["int8", "float"])
def test_random_nets(seed: int, floats: bool, tmp_path: Path) -> None:
    """Read once at the least RAM; at limits below it, read again; never other bits."""
    graph = random_net(seed, floats=floats)
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "at_hand")
    once = best_plan(graph, staged_request(graph))
    least, total = once.peak(SRAM), sum(s.blocks.total for s in once.staged.values())
    assert sum(read_of(graph, once).values()) == total, "without a limit, no weight is read twice"
    plans = {"once": once}
    for percent in (130, 97, 85):
        plan = best_plan(graph, staged_request(graph, least * percent // 100))
        if plan.peak(SRAM) <= least * percent // 100 or percent > 100:
            plans[str(percent)] = plan
    for name, plan in plans.items():
        assert check_plan(graph, plan) == []
        found, read = run_staged(graph, plan, tmp_path / name)
        assert found == expected, (name, str(graph), plan.groups, plan.staged)
        assert read == sum(read_of(graph, plan).values()), (name, plan.groups, plan.staged)


@pytest.mark.quick
def test_weights_are_read_again_where_ram_is_short(tmp_path: Path) -> None:
    """Three convolutions whose weights do not fit together: batched, in blocks, read once an iteration."""
    b = Build("batched")
    x = b.input(24, 12, 8, dtype=ElementType.F32)
    for _ in range(3):
        x = conv(b, x, 48, 3, floats=True)
    graph = filled(b.graph(b.max_pool(x, 2, 2)), 7)
    plan = best_plan(graph, staged_request(graph, 84_000))
    assert plan.peak(SRAM) <= 84_000 < best_plan(graph, staged_request(graph)).peak(SRAM)
    assert any(group.batched and len(group.nodes) > 1 for group in plan.groups)
    assert any(s.blocks.count > 1 for s in plan.staged.values())
    read = sum(read_of(graph, plan).values())
    assert read > sum(s.blocks.total for s in plan.staged.values())
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "at_hand")
    assert run_staged(graph, plan, tmp_path / "staged") == (expected, read)


def cases() -> list[OpCase]:
    int8 = [*conv_cases(), *pointwise_cases(), *depthwise_cases(), *transposed_cases()]
    return [c for c in (*int8, *convolutions(), *matrices(), *transposed_convolutions()) if any(c.constant)]


def test_every_operator_by_blocks(tmp_path: Path) -> None:
    """Each case of an operator with constants, cut into the smallest blocks there are; some to a model."""
    several, every = 0, cases()
    for k in range(0, len(every), TOGETHER):
        b, some = Build(f"cases{k}"), every[k : k + TOGETHER]
        for case in some:
            names = [
                b.constant(a) if case.is_constant(i) else b.input(*a.shape, dtype=ElementType.of(a))
                for i, a in enumerate(case.inputs)
            ]
            b.add(case.op, *names)
        graph = b.graph(*(node.output for node in b.nodes))
        tilings = {index: least[:1] for index, least in staging(graph, HOST, 1 << 30).tilings.items()}
        several += sum(blocks.count > 1 for (blocks,) in tilings.values())
        plan = best_plan(graph, replace(request(graph), staging=Staging(tilings), fuse=False))
        assert check_plan(graph, plan) == []
        assert check_entry(Entry(RUN, graph), plan, lower_entry(Entry(RUN, graph), plan, HOST)) == []
        assert {index: (staged.blocks,) for index, staged in plan.staged.items()} == tilings
        inputs = [a for case in some for i, a in enumerate(case.inputs) if not case.is_constant(i)]
        found, read = run_staged(graph, plan, tmp_path / f"{k}", [inputs])
        for case, made in zip(some, found, strict=True):
            got = np.frombuffer(made, case.want.dtype).reshape(case.want.shape)
            tolerance = 1e-5 if case.want.dtype == np.float32 else 0
            np.testing.assert_allclose(got, case.want, tolerance, tolerance, err_msg=case.name)
        assert read == sum(blocks.total for (blocks,) in tilings.values())
    assert several > 20


@pytest.mark.quick
def test_blocks_that_are_packed_for_different_kernels(tmp_path: Path) -> None:
    """Whether a sum fits the cheap form depends on the numbers: here it does in some blocks only."""
    b = Build("kinds")
    graph = filled(b.graph(b.conv(b.input(6, 6, 12), 80, 3)), 4)
    each = staging(graph, HOST, 1 << 20).tilings[0][0].channels
    odd = np.arange(80) // each % 2
    graph.constants[graph.nodes[0].inputs[4]] = np.where(odd, 31, 38).astype(np.int8)
    tiling = staging(graph, HOST, 1 << 20).tilings[0][0]
    plan = best_plan(graph, replace(request(graph), staging=Staging({0: (tiling,)}), fuse=False))
    (node,) = lower(Module.of(graph), MemoryPlan.of(plan), NAME, HOST).nodes
    assert set(node.kinds) == {0, 1}
    assert node.kinds[0] != node.kinds[1]
    expected = run(graph, replace(plan, staged={}), tmp_path / "whole")
    assert run_staged(graph, plan, tmp_path / "blocks") == (expected, tiling.total)


def test_a_node_with_two_results_that_has_constants_on_this_machine_only(tmp_path: Path) -> None:
    """The self-check runs the host's kernels, which may stage what the board's have not."""
    constants = {"w": np.ones((8, 6), np.float32), "k": np.array([2])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("TopK", ["y", "k"], ["values", "places"]),
    ]
    model = model_of(nodes, {"x": np.zeros((3, 8), np.float32)}, ["values", "places"], constants)
    onnx.save(model, tmp_path / "top.onnx")
    options = CompileOptions(target="cortex-m4", weights="staged", stack=1000)
    compile_model(tmp_path / "top.onnx", tmp_path / "c", options)


@pytest.mark.quick
def test_rows_too_far_apart_for_a_kernel() -> None:
    """In a Concat's buffer the rows are out of reach of short offsets: another kernel, a larger block."""
    b = Build("wide")
    x = b.input(6, 130, 8)
    narrow = b.conv(x, 33, 1)
    joined = b.concat(2, narrow, b.conv(x, 223, 1))
    graph = filled(b.graph(b.depthwise(narrow, 3), joined), 1)
    board = load_target("cortex-m55")
    asked = replace(request(graph), staging=staging(graph, board, 1 << 20), fuse=False)
    plan = best_plan(graph, asked)
    index = graph.nodes.index(graph.producer[graph.outputs[0].tensor])
    (node,) = (n for n in lower(Module.of(graph), MemoryPlan.of(plan), NAME, board).nodes if n.index == index)
    assert node.use.template != "mve_depthwise_int8", "its input is in the Concat's buffer"
    room = sum(staged.blocks.total for staged in plan.staged.values())
    assert sum(map(len, weights_file(Module.of(graph), MemoryPlan.of(plan), board))) == room


@pytest.mark.quick
def test_which_outputs_can_be_made_in_parts() -> None:
    b = Build("axes")
    x = b.input(6, 6, 8, dtype=ElementType.F32)
    y = conv(b, x, 16, 3, floats=True)
    int8 = b.depthwise(b.input(6, 6, 8), 3)
    graph = b.graph(y, int8)
    of = {type(node.op): channel_axes(graph, node) for node in graph.nodes}
    assert of[Conv] == {1: 0, 2: 0}
    assert [axes for op, axes in of.items() if op is not Conv] == [None] * (len(of) - 1)
    dense = Build("dense")
    constants = [dense.constant(np.ones(s, np.float32)) for s in ((12, 5), (12,))]
    flat = dense.graph(dense.add(Dense(), dense.input(5, dtype=ElementType.F32), *constants))
    assert channel_axes(flat, flat.nodes[0]) == {1: 0, 2: 0}


@pytest.mark.quick
def test_the_weight_streaming_is_the_cheapest() -> None:
    """By brute force over what stays and the number of buffers; with one, a byte read costs twice as much."""
    rng = random.Random(3)
    for _ in range(200):
        tilings = {
            kernel: tuple(Blocks(4 * n, 8 // n, size * n, size * n) for n in (1, 2, 8))
            for kernel, size in ((u, 16 * rng.randint(1, 9)) for u in range(rng.randint(1, 3)))
        }
        calls, room = {kernel: rng.randint(1, 5) for kernel in tilings}, 16 * rng.randint(4, 120)
        price = Price(1.0, dict.fromkeys(tilings, 0.0))
        found = StreamingChoices(tilings, calls, price).cheapest(room)
        costs = []
        for stays in range(1 << len(tilings)):
            inside = sum(tilings[u][-1].bytes for u in tilings if stays >> u & 1)
            buffer = max((tilings[u][0].bytes for u in tilings if not stays >> u & 1), default=0)
            read = sum(tilings[u][0].total * (1 if stays >> u & 1 else calls[u]) for u in tilings)
            costs += [read * (3 - n if buffer else 1) for n in (1, 2) if inside + n * buffer <= room]
        if found is None:
            assert not costs
        else:
            assert found.bytes <= room
            assert found.read * (2 if found.streamed and found.buffers == 1 else 1) == min(costs)


@needs_shared
def test_in_qemu_within_the_limit(tmp_path: Path) -> None:
    """Firmware of a board's own kernels, its RAM linked to the limit, against what the host computes."""
    ready("cortex-m4")
    folder = tmp_path / "kws"
    options = CompileOptions(target="cortex-m4", weights="staged", ram=12 * 1024)
    compile_model(model_path("kws_dscnn_int8_qdq"), folder, options)
    found = mmcc.verify(folder, on="qemu")
    assert found["ok"]
