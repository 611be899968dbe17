# SPDX-License-Identifier: Apache-2.0
"""Planted faults in staged plans, limits that are told, and callbacks that fail."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import mmcc
import numpy as np
import pytest
from fused_c import conv, filled, request, staging
from mmcc.checker.plan import check_plan
from mmcc.checker.replay import Replay
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import BufferKind, Place, Plan, aligned
from mmcc.ir.regions import SRAM
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.planner.api import best_plan
from mmcc.planner.request import Staging
from planner_graphs import Build
from shared_models import model_path, needs_shared
from staged_runs import HOST, staged_request

pytestmark = pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"
)


DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def two_layers() -> tuple[Graph, Plan]:
    b = Build("two")
    x = conv(b, b.input(12, 12, 4, dtype=ElementType.F32), 32, 3, floats=True)
    graph = filled(b.graph(conv(b, x, 32, 3, floats=True)), 1)
    plan = best_plan(graph, staged_request(graph, 38_000))
    assert check_plan(graph, plan) == []
    return graph, plan


@pytest.mark.quick
def test_what_does_not_fit_is_told_by_what_does(two_layers: tuple[Graph, Plan]) -> None:
    """What is found below a limit can be met, and what is known not to be enough is not."""
    graph, _ = two_layers
    least = best_plan(graph, staged_request(graph, 1000))
    peak = least.peak(SRAM)
    assert 1000 < least.bound <= peak
    assert best_plan(graph, staged_request(graph, peak)).peak(SRAM) <= peak
    assert best_plan(graph, staged_request(graph, least.bound - 1)).peak(SRAM) >= least.bound


@pytest.mark.quick
def test_the_least_that_is_found_is_near_what_is_not_enough(two_layers: tuple[Graph, Plan]) -> None:
    """And near what is found with limits: the first level whose bound is met cannot be placed."""
    graph, _ = two_layers
    least = best_plan(graph, staged_request(graph, 1000))
    assert least.peak(SRAM) <= 1.02 * least.bound
    for limit in range(least.bound, 48_000, 1_000):
        plan = best_plan(graph, staged_request(graph, limit))
        assert plan.peak(SRAM) <= max(limit, least.peak(SRAM))
        assert plan.bound <= least.peak(SRAM), "what is called proved is not beaten"


def moved(plan: Plan, name: str, offset: int) -> Plan:
    return replace(plan, places=plan.places | {name: Place(plan.places[name].region, offset)})


@pytest.mark.quick
def test_constants_over_what_is_alive(two_layers: tuple[Graph, Plan]) -> None:
    graph, plan = two_layers
    staged = [b for b in plan.buffers if b.kind is BufferKind.STAGED]
    for buffer in staged:
        other = next(
            b
            for b in plan.buffers
            if b.kind is not BufferKind.STAGED and b.live.lo < buffer.live.hi and buffer.live.lo < b.live.hi
        )
        wrong = check_plan(graph, moved(plan, buffer.name, plan.places[other.name].offset))
        assert any(buffer.name in text for text in wrong), wrong


@pytest.mark.quick
def test_constants_that_come_while_the_group_before_runs() -> None:
    """The replay finds what that writes over them, and what of it they overwrite; lives are not asked."""
    b = Build("layers")
    graph = filled(b.graph(b.conv(b.conv(b.input(8, 8, 16), 16, 3), 16, 3)), 3)
    plan = best_plan(graph, replace(staged_request(graph), fuse=False))
    (index,) = plan.groups[1].nodes
    name = plan.staged[index].buffers[0]
    sooner = tuple(replace(b, live=Span(0, 2)) if b.name == name else b for b in plan.buffers)
    apart = replace(moved(plan, name, aligned(plan.peak(SRAM))), buffers=sooner)
    assert check_plan(graph, apart) == []
    node = graph.nodes[plan.groups[0].nodes[0]]
    for tensor in (node.inputs[0], node.outputs[0]):
        wrong = moved(apart, name, plan.places[plan.slots[tensor].buffer].offset)
        assert any("overwritten" in text for text in Replay(graph, wrong).run()), tensor


@pytest.mark.quick
def test_a_block_larger_than_its_slot(two_layers: tuple[Graph, Plan]) -> None:
    graph, plan = two_layers
    index, staged = next(iter(plan.staged.items()))
    larger = replace(staged, blocks=replace(staged.blocks, bytes=staged.blocks.bytes + 1600))
    wrong = check_plan(graph, replace(plan, staged=plan.staged | {index: larger}))
    assert any("has blocks of" in text for text in wrong), wrong


@pytest.mark.quick
def test_an_output_over_its_input_although_blocks_read_it_again() -> None:
    """One layer in place of its input, which works only if its output is not made in parts."""
    b = Build("one")
    graph = filled(b.graph(b.conv(b.input(12, 12, 64), 64, 1)), 2)
    at_hand = best_plan(graph, request(graph, fuse=False))
    assert at_hand.overlaps
    tilings = staging(graph, HOST, 1 << 20).tilings
    plan = best_plan(graph, replace(request(graph), staging=Staging({0: tilings[0][:1]}), fuse=False))
    out, into = plan.slots[graph.outputs[0].tensor].buffer, plan.slots[graph.inputs[0].tensor].buffer
    wrong = check_plan(graph, replace(moved(plan, out, plan.places[into].offset), overlaps=at_hand.overlaps))
    assert any("overwritten" in text for text in wrong), wrong


FAILING = """
#include "net.h"
#include <stdio.h>
#include <string.h>
static NET_ARENA(arena);
static net_context model;
static FILE *file;
static int limit = 1000000, starts, waits, asynchronous = 1;
static int32_t start(void *user, void *to, uint32_t offset, uint32_t bytes)
{
    if (++starts > *(int *)user || (asynchronous && starts != waits + 1)) return 1; /* one copy at a time */
    if ((uintptr_t)to % 16 != 0 || offset % 16 != 0) return 1;
    return fseek(file, (long)offset, SEEK_SET) != 0 || fread(to, 1, bytes, file) != bytes;
}
static int32_t wait(void *user)
{
    (void)user;
    return ++waits == starts ? 0 : 1;
}
int main(int argc, char **argv)
{
    file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL || net_init(&model, arena, sizeof arena) != MMCC_OK) return 1;
    if (net_run(&model) != MMCC_ERROR_WEIGHTS) return 2; /* no callbacks yet */
    if (net_stage_weights(&model, 0, 0, 0) != MMCC_ERROR_NULL) return 3;
    if (net_stage_weights(&model, start, wait, &limit) != MMCC_OK) return 4;
    if (starts != 1 || waits != 1) return 12; /* the stamp at the end of the file */
    starts = waits = 0;
    for (uint32_t k = 0; k < NET_INPUT_0_ELEMENTS; ++k) net_input_0(&model)[k] = (int8_t)k;
    if (net_run(&model) != MMCC_OK || starts != waits) return 5;
    int8_t expected[NET_OUTPUT_0_ELEMENTS];
    memcpy(expected, net_output_0(&model), sizeof expected);
    const int all = starts;
    for (limit = 0; limit < all; ++limit) { /* a failure ends the asking, and the next run is sound */
        starts = waits = 0;
        if (net_run(&model) != MMCC_ERROR_WEIGHTS || starts != limit + 1) return 6;
        for (uint32_t k = 0; k < NET_INPUT_0_ELEMENTS; ++k) net_input_0(&model)[k] = (int8_t)k;
        waits = (starts = -1000000) - 1; /* the one that failed is waited for first */
        if (net_run(&model) != MMCC_OK) return 7;
        if (memcmp(expected, net_output_0(&model), sizeof expected) != 0) return 8;
    }
    starts = asynchronous = 0;
    limit = all;
    if (net_stage_weights(&model, start, 0, &limit) != MMCC_OK) return 9; /* a start that returns when done */
    starts = 0;
    for (uint32_t k = 0; k < NET_INPUT_0_ELEMENTS; ++k) net_input_0(&model)[k] = (int8_t)k;
    if (net_run(&model) != MMCC_OK || starts != all) return 10;
    return memcmp(expected, net_output_0(&model), sizeof expected) == 0 ? 0 : 11;
}
"""


@pytest.mark.quick
def test_a_callback_that_fails_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    mmcc.compile_model(DIGITS / "digits_int8.onnx", folder, name="net", weights="staged")
    assert not list(folder.glob("*_weights.[cS]"))
    (tmp_path / "main.c").write_text(FAILING)
    sources = [p for p in folder.glob("*.c") if "selftest" not in p.name]
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", "-std=c99", *sanitize, f"-I{folder}", tmp_path / "main.c", *sources, "-lm", "-o"]
    subprocess.run([*command, tmp_path / "x"], check=True)
    done = subprocess.run([tmp_path / "x", folder / "net_weights.bin"], check=False)
    assert done.returncode == 0


@needs_shared
@pytest.mark.parametrize(
    ("name", "ram"),
    [
        ("kws_dscnn_int8_qdq", 16_000),
        ("ic_resnet8_fp32", 120_000),
        ("gen_inception_96", 500_000),
        ("gen_unet_96_convtranspose", 0),
    ],
)
def test_models_on_this_machine(name: str, ram: int, tmp_path: Path) -> None:
    """The bits of the package with weights at hand, within the limit, and as many bytes read as reported."""
    model = model_path(name)
    compile_model(model, tmp_path / "at_hand", CompileOptions(weights="bin"))
    staged = compile_model(model, tmp_path / "staged", CompileOptions(weights="staged", ram=ram))
    assert not ram or staged.report["ram"]["total"] <= ram
    outputs = []
    for folder in ("at_hand", "staged"):
        package = load_package(tmp_path / folder)
        loaded, rng = host_model(tmp_path / folder, package), np.random.default_rng(5)
        tensors = [package.tensors[port.tensor] for port in package.inputs]
        arrays = [rng.integers(-100, 100, t.shape).astype(t.dtype.numpy) for t in tensors]
        outputs.append([y.tobytes() for y in loaded.run(arrays)])
    assert outputs[0] == outputs[1]
    assert loaded.weights_read() == staged.report["weights"]["read"]
