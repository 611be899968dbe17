# SPDX-License-Identifier: Apache-2.0
"""Weights that are read while the model runs: the bits of the plan that has them at hand, and no byte more
read than reported."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import mmcc
import numpy as np
import pytest
from fused_c import NAME, add, conv, filled, request, run, staging
from kernel_bench import OpCase
from mmcc.checker.plan import check_plan
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower, weights_file
from mmcc.codegen.render import render
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Blocks, BufferKind, Place, Plan
from mmcc.ir.types import DType
from mmcc.kernels.blocks import channel_axes
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.package.host import host_model
from mmcc.package.record import load_package
from mmcc.planner.api import best_plan
from mmcc.planner.cost import read_of
from mmcc.planner.request import PlanRequest, Staging
from mmcc.planner.streaming.blocks import Price, cheapest
from mmcc.target import load_target
from mmcc.toolchain.host import HostModel, build_shared
from op_cases_float import convolutions, matrices, transposed_convolutions
from op_cases_int8 import conv_cases, depthwise_cases, pointwise_cases, transposed_cases
from planner_graphs import Build
from shared_models import model_path, needs_shared
from toolchains import ready

pytestmark = pytest.mark.skipif(
    not shutil.which("cmake") or not shutil.which("cc"), reason="needs a compiler"
)
HOST = load_target("host")
TOGETHER = 12  # cases of operators in one model
DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


def run_staged(graph: Graph, plan: Plan, folder: Path) -> tuple[list[bytes], int]:
    """Outputs of the generated C for the inputs that `run` takes, and the bytes of weights a run read."""
    package = folder / "package"
    package.mkdir(parents=True)
    made = emit(graph, lower(graph, plan, NAME, HOST), EmitOptions(NAME), HOST)
    for name, text in made.files.items():
        (package / name).write_text(text)
    path = folder / "weights.bin"
    path.write_bytes(b"".join(weights_file(graph, plan, HOST)))
    assert path.stat().st_size == made.weights.size
    adapter = f"#define MMCC_WEIGHTS_FILE {json.dumps(str(path))}\n"
    adapter += render("adapter.c.j2", on_heap=True, **made.values)
    dtypes = [graph.tensors[port.tensor].dtype.numpy for port in graph.outputs]
    model = HostModel(build_shared(package, adapter, NAME, folder / "work"), dtypes)
    rng, found = np.random.default_rng(0), list[bytes]()
    for _ in range(3):
        inputs = [
            rng.standard_normal(t.shape).astype(np.float32)
            if t.dtype.is_float
            else rng.integers(-128, 128, t.shape).astype(np.int8)
            for t in (graph.tensors[port.tensor] for port in graph.inputs)
        ]
        found += [np.ascontiguousarray(y).tobytes() for y in model.run(inputs)]
    assert model.weights_read() % 3 == 0
    return found, model.weights_read() // 3


def staged_request(graph: Graph, limit: int | None = None, **more: object) -> PlanRequest:
    blocks = staging(graph, HOST, 1 << 20)
    return replace(request(graph), staging=blocks, limit=limit, effort=2.0, **more)


def random_net(seed: int, *, floats: bool) -> Graph:
    """Layers with enough channels for several blocks; residuals, pools, joins, a dense layer at the end."""
    draw = random.Random(seed)
    b = Build("random")
    x = b.input(draw.randint(8, 15), draw.randint(5, 9), 3, dtype=DType.F32 if floats else DType.I8)
    for _ in range(draw.randint(3, 6)):
        h, w, c = b.shape(x)
        kind = draw.choice(["conv", "conv", "conv", "residual", "pool", "concat", "depthwise"])
        if kind == "pool" and min(h, w) >= 4:
            x = b.max_pool(x, 2, draw.choice([1, 2]))
        elif kind == "residual":
            x = add(b, x, conv(b, x, c, 3, floats=floats), floats=floats)
        elif kind == "concat":
            x = b.concat(2, conv(b, x, 16, 1, floats=floats), conv(b, x, 24, 3, floats=floats))
        elif kind == "depthwise" and not floats:
            x = b.depthwise(x, 3, draw.choice([1, 2]))
        else:
            x = conv(
                b, x, draw.choice([16, 24, 33]), draw.choice([1, 3]), draw.choice([1, 1, 2]), floats=floats
            )
    if not floats and draw.random() < 0.5:
        mean = b.mean(x)
        x = b.dense(b.reshape(mean, b.shape(mean)[-1]), 20)
    return filled(b.graph(x), seed)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("floats", [False, True], ids=["int8", "float"])
def test_random_nets(seed: int, floats: bool, tmp_path: Path) -> None:
    """Read once at the least RAM; at limits below it, read again; never other bits."""
    graph = random_net(seed, floats=floats)
    expected = run(graph, best_plan(graph, request(graph, fuse=False)), tmp_path / "at_hand")
    once = best_plan(graph, staged_request(graph))
    least, total = once.peak("sram"), sum(s.blocks.total for s in once.staged.values())
    assert sum(read_of(graph, once).values()) == total, "without a limit, no weight is read twice"
    plans = {"once": once}
    for percent in (130, 97, 85):
        plan = best_plan(graph, staged_request(graph, least * percent // 100))
        if plan.peak("sram") <= least * percent // 100 or percent > 100:
            plans[str(percent)] = plan
    for name, plan in plans.items():
        assert check_plan(graph, plan) == []
        found, read = run_staged(graph, plan, tmp_path / name)
        assert found == expected, (name, str(graph), plan.groups, plan.staged)
        assert read == sum(read_of(graph, plan).values()), (name, plan.groups, plan.staged)


@pytest.mark.quick
def test_weights_are_read_again_where_ram_is_short(tmp_path: Path) -> None:
    """Three convolutions whose weights do not fit together: batched, in several blocks, read once a turn."""
    b = Build("batched")
    x = b.input(24, 12, 8, dtype=DType.F32)
    for _ in range(3):
        x = conv(b, x, 48, 3, floats=True)
    graph = filled(b.graph(b.max_pool(x, 2, 2)), 7)
    plan = best_plan(graph, staged_request(graph, 84_000))
    assert plan.peak("sram") <= 84_000 < best_plan(graph, staged_request(graph)).peak("sram")
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
        b = Build(f"cases{k}")
        for case in every[k : k + TOGETHER]:
            names = [
                b.constant(a) if case.is_constant(i) else b.input(*a.shape, dtype=DType.of(a))
                for i, a in enumerate(case.inputs)
            ]
            b.add(case.op, *names)
        graph = b.graph(*(node.output for node in b.nodes))
        ways = {index: some[:1] for index, some in staging(graph, HOST, 1 << 30).ways.items()}
        several += sum(blocks.count > 1 for (blocks,) in ways.values())
        plan = best_plan(graph, replace(request(graph), staging=Staging(ways), fuse=False))
        assert check_plan(graph, plan) == []
        assert {index: (staged.blocks,) for index, staged in plan.staged.items()} == ways
        expected = run(graph, replace(plan, staged={}), tmp_path / f"{k}whole")
        found, read = run_staged(graph, plan, tmp_path / f"{k}")
        differ = [case.name for n, case in enumerate(every[k : k + TOGETHER]) if found[n] != expected[n]]
        assert found == expected, differ
        assert read == sum(blocks.total for (blocks,) in ways.values())
    assert several > 20


@pytest.mark.quick
def test_blocks_that_are_packed_for_different_kernels(tmp_path: Path) -> None:
    """Whether a sum fits the cheap form depends on the numbers: here it does in some blocks only."""
    b = Build("kinds")
    graph = filled(b.graph(b.conv(b.input(6, 6, 12), 80, 3)), 4)
    each = staging(graph, HOST, 1 << 20).ways[0][0].channels
    odd = np.arange(80) // each % 2
    graph.constants[graph.nodes[0].inputs[4]] = np.where(odd, 31, 38).astype(np.int8)
    way = staging(graph, HOST, 1 << 20).ways[0][0]
    plan = best_plan(graph, replace(request(graph), staging=Staging({0: (way,)}), fuse=False))
    (node,) = lower(graph, plan, NAME, HOST).nodes
    assert set(node.kinds) == {0, 1}
    assert node.kinds[0] != node.kinds[1]
    expected = run(graph, replace(plan, staged={}), tmp_path / "whole")
    assert run_staged(graph, plan, tmp_path / "blocks") == (expected, way.total)


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
    (node,) = (n for n in lower(graph, plan, NAME, board).nodes if n.index == index)
    assert node.use.template != "mve_depthwise_int8", "its input is in the Concat's buffer"
    room = sum(staged.blocks.total for staged in plan.staged.values())
    assert sum(map(len, weights_file(graph, plan, board))) == room


@pytest.mark.quick
def test_which_outputs_can_be_made_in_parts() -> None:
    b = Build("axes")
    x = b.input(6, 6, 8, dtype=DType.F32)
    y = conv(b, x, 16, 3, floats=True)
    int8 = b.depthwise(b.input(6, 6, 8), 3)
    graph = b.graph(y, int8)
    of = {type(node.op): channel_axes(graph, k) for k, node in enumerate(graph.nodes)}
    assert of[Conv] == {1: 0, 2: 0}
    assert [axes for op, axes in of.items() if op is not Conv] == [None] * (len(of) - 1)
    dense = Build("dense")
    constants = [dense.constant(np.ones(s, np.float32)) for s in ((12, 5), (12,))]
    assert channel_axes(dense.graph(dense.add(Dense(), dense.input(5, dtype=DType.F32), *constants)), 0) == {
        1: 0,
        2: 0,
    }


@pytest.mark.quick
def test_the_load_is_the_cheapest() -> None:
    """By brute force over what stays and the number of slots; with one, a byte read costs twice as much."""
    rng = random.Random(3)
    for _ in range(200):
        ways = {
            unit: tuple(Blocks(4 * n, 8 // n, size * n, size * n) for n in (1, 2, 8))
            for unit, size in ((u, 16 * rng.randint(1, 9)) for u in range(rng.randint(1, 3)))
        }
        calls, room = {unit: rng.randint(1, 5) for unit in ways}, 16 * rng.randint(4, 120)
        price = Price(1.0, dict.fromkeys(ways, 0.0))
        found = cheapest(ways, calls, room, price)
        costs = []
        for stays in range(1 << len(ways)):
            inside = sum(ways[u][-1].bytes for u in ways if stays >> u & 1)
            slot = max((ways[u][0].bytes for u in ways if not stays >> u & 1), default=0)
            read = sum(ways[u][0].total * (1 if stays >> u & 1 else calls[u]) for u in ways)
            costs += [read * (3 - n if slot else 1) for n in (1, 2) if inside + n * slot <= room]
        if found is None:
            assert not costs
        else:
            assert found.bytes <= room
            assert found.read * (2 if found.streamed and found.slots == 1 else 1) == min(costs)


# ---- planted faults


@pytest.fixture(scope="module")
def two_layers() -> tuple[Graph, Plan]:
    b = Build("two")
    x = conv(b, b.input(12, 12, 4, dtype=DType.F32), 32, 3, floats=True)
    graph = filled(b.graph(conv(b, x, 32, 3, floats=True)), 1)
    plan = best_plan(graph, staged_request(graph, 38_000))
    assert check_plan(graph, plan) == []
    return graph, plan


@pytest.mark.quick
def test_what_does_not_fit_is_told_by_what_does(two_layers: tuple[Graph, Plan]) -> None:
    """What is found below a limit can be met, and what is known not to be enough is not."""
    graph, _ = two_layers
    least = best_plan(graph, staged_request(graph, 1000))
    peak = least.peak("sram")
    assert 1000 < least.bound <= peak
    assert best_plan(graph, staged_request(graph, peak)).peak("sram") <= peak
    assert best_plan(graph, staged_request(graph, least.bound - 1)).peak("sram") >= least.bound


@pytest.mark.quick
def test_the_least_that_is_found_is_near_what_is_not_enough(two_layers: tuple[Graph, Plan]) -> None:
    """And near what is found with limits: the first level whose bound is met cannot be placed."""
    graph, _ = two_layers
    least = best_plan(graph, staged_request(graph, 1000))
    assert least.peak("sram") <= 1.02 * least.bound
    for limit in range(least.bound, 48_000, 1_000):
        plan = best_plan(graph, staged_request(graph, limit))
        assert plan.peak("sram") <= max(limit, least.peak("sram"))
        assert plan.bound <= least.peak("sram"), "what is called proved is not beaten"


def moved(plan: Plan, name: str, offset: int) -> Plan:
    return replace(plan, places=plan.places | {name: Place(plan.places[name].tier, offset)})


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
    ways = staging(graph, HOST, 1 << 20).ways
    plan = best_plan(graph, replace(request(graph), staging=Staging({0: ways[0][:1]}), fuse=False))
    out, into = plan.slots[graph.outputs[0].tensor].buffer, plan.slots[graph.inputs[0].tensor].buffer
    wrong = check_plan(graph, replace(moved(plan, out, plan.places[into].offset), overlaps=at_hand.overlaps))
    assert any("overwritten" in text for text in wrong), wrong


# ---- packages

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


@needs_shared
def test_in_qemu_within_the_limit(tmp_path: Path) -> None:
    """Firmware of a board's own kernels, its RAM linked to the limit, against what the host computes."""
    ready("cortex-m4")
    folder = tmp_path / "kws"
    options = CompileOptions(target="cortex-m4", weights="staged", ram=12 * 1024)
    compile_model(model_path("kws_dscnn_int8_qdq"), folder, options)
    found = mmcc.verify(folder, on="qemu")
    assert found["ok"]
