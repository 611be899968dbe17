# SPDX-License-Identifier: Apache-2.0
"""Kernels for Armv8.1-M vectors on the emulated board: all cases in all ways, and shapes made for vectors."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from fused_c import NAME, filled, request
from kernel_bench import Bench
from mmcc.codegen.emit import EmitOptions, emit
from mmcc.codegen.lower import lower
from mmcc.codegen.render import render
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan
from mmcc.ir.program import Constant
from mmcc.kernels.arm_mve.conv import pack_runs
from mmcc.kernels.select import kernel_use
from mmcc.kernels.tilings import planning_site
from mmcc.ops.activation import Leaky
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.elementwise_int8 import AddInt8, Lookup, MulInt8
from mmcc.ops.pool import AveragePoolInt8, MaxPool
from mmcc.ops.reduce import MeanInt8
from mmcc.ops.requantize import multiplier_and_shift, multipliers_and_shifts
from mmcc.ops.window import Window
from mmcc.planner.api import best_plan
from mmcc.target import load_target
from mmcc.toolchain.firmware import build_firmware
from mmcc.toolchain.qemu import run_firmware
from op_case import OpCase
from op_cases_float import FAMILIES as FLOAT_FAMILIES
from op_cases_int8 import FAMILIES
from op_cases_int8_layers import CONSTANTS, conv_to_float, dense, dense_to_float, int8, per_filter
from op_cases_int16 import conv16, dense16
from op_cases_recurrent_int8 import cells
from planner_graphs import Build
from qemu_bench import QemuBench
from toolchains import ready

FORMS = ("high", "high", "left", "tiny")


def check(cases: list[OpCase], *kernels: str) -> None:
    """All cases agree, and these kernels were made for them."""
    bench = QemuBench(cases, ready("cortex-m55"))
    assert set(kernels) <= {kernel.template for kernel in bench.package.kernels}
    bench.check_all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_int8_case(family):
    check(FAMILIES[family]())


def test_products_of_16_bits():
    """What 16x8 takes: with sums that end in the high word, with sums of 64 bits, and over a window."""
    same = Window((3, 3), pads=(1, 1, 1, 1))
    cases = (
        (conv16("mve16_48", (8, 1, 48), 48, Window((1, 1))), 0.63),
        (dense16("mve16_256", (256,), 128), 0.51),
        (conv16("mve16_3x3", (8, 8, 16), 16, same), 0.57),
        (conv16("mve16_bounds", (5, 6, 9), 7, same, low=-900, high=1000), 1.5),
    )
    bench = QemuBench([case for case, _ in cases], ready("cortex-m55"))
    assert {kernel.template for kernel in bench.package.kernels} == {"mve_conv_int16"}
    bench.check_all()
    for case, most in cases:
        assert bench.instructions(case.name) / case.nest.macs <= most, case.name


def test_sums_with_outputs_in_float():
    """In whole vectors, gathered, of few filters and of some that are left over; what a product takes."""
    same = Window((3, 3), pads=(1, 1, 1, 1))
    cases = (
        (conv_to_float("sums_16", (8, 8, 16), 16, same), 0.36),
        (conv_to_float("sums_3", (8, 8, 3), 16, same), 1.16),
        (conv_to_float("sums_left_over", (9, 9, 20), 9, Window((3, 2), (1, 1), (2, 3), (1, 0, 0, 1))), 0.57),
        (conv_to_float("sums_few", (4, 5, 16), 3, Window((1, 1)), activation=Leaky(0.125)), 3.3),
        (dense_to_float("sums_line", (256,), 24), 0.45),
    )
    bench = QemuBench([case for case, _ in cases], ready("cortex-m55"))
    assert {kernel.template for kernel in bench.package.kernels} == {"mve_conv_int8"}
    bench.check_all()
    for case, most in cases:
        assert bench.instructions(case.name) / case.nest.macs <= most, case.name


@pytest.mark.parametrize(
    ("family", "kernels"), [("convolutions", ("mve_depthwise", "conv")), ("matrices", ("dense", "matmul"))]
)
def test_float_layers(family, kernels):
    """Rows, rings and strips give the same bits."""
    check(FLOAT_FAMILIES[family](), *kernels)


def sides(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    return int(rng.integers(low, high)), int(rng.integers(low, high))


def limits(rng: np.random.Generator) -> tuple[int, int, int]:
    """Output zero point and range; often all of int8."""
    zero = int(rng.choice([-128, 127, rng.integers(-128, 128)]))
    return (zero, -128, 127) if rng.random() < 0.6 else (zero, max(zero, -100), max(zero, 90))


def window_of(rng: np.random.Generator, kernel: tuple[int, int], x: tuple[int, ...]) -> Window:
    """Strides, dilations and pads of all kinds, for an image large enough or padded until it is."""
    strides, dilations = sides(rng, 1, 3), (1, 1) if rng.random() < 0.7 else sides(rng, 1, 3)
    same = rng.random() < 0.6
    pads = (*((k // 2 if same else int(rng.integers(0, k))) for k in kernel), *sides(rng, 0, 3))
    lacking = [max(0, (kernel[a] - 1) * dilations[a] + 1 - x[a] - pads[a] - pads[a + 2]) for a in (0, 1)]
    return Window(kernel, strides, dilations, (pads[0], pads[1], pads[2] + lacking[0], pads[3] + lacking[1]))


def convolution(
    rng: np.random.Generator, name: str, kernel: tuple[int, int], depth: int, filters: int
) -> OpCase:
    x = (*sides(rng, 1, 9), depth)
    window = Window(kernel) if kernel == (1, 1) else window_of(rng, kernel, x)
    zero, low, high = limits(rng)
    op = ConvInt8(window, int(rng.integers(-128, 128)), zero, low=low, high=high)
    scale = per_filter(rng, filters, str(rng.choice(FORMS)))
    return OpCase(name, op, (int8(rng, *x), int8(rng, filters, *kernel, depth), *scale), CONSTANTS)


def depthwise(rng: np.random.Generator, name: str, kernel: tuple[int, int], channels: int) -> OpCase:
    x = (*sides(rng, 1, 11), channels)
    zero, low, high = limits(rng)
    op = ConvInt8(
        window_of(rng, kernel, x), int(rng.integers(-128, 128)), zero, low=low, high=high, groups=channels
    )
    scale = per_filter(rng, channels, str(rng.choice(FORMS)))
    return OpCase(name, op, (int8(rng, *x), int8(rng, channels, *kernel, 1), *scale), CONSTANTS)


@pytest.mark.parametrize("seed", range(3))
def test_convolutions_of_any_shape(seed):
    """Channels around multiples of a vector, filters around multiples of a block."""
    rng = np.random.default_rng(seed)
    cases: list[OpCase] = []
    for k, depth in enumerate((3, 7, 8, 15, 16, 17, 24, 31, 32, 48, 64, 70)):
        kernel = [(1, 1), (3, 3), sides(rng, 1, 6)][(k + seed) % 3]
        cases.append(convolution(rng, f"c{k}", kernel, depth, int(rng.choice([4, 5, 7, 8, 11, 16, 18]))))
    check(cases, "mve_conv_int8")


@pytest.mark.parametrize("seed", range(3))
def test_depthwise_of_any_shape(seed):
    rng = np.random.default_rng(100 + seed)
    kernels = (
        (3, 3),
        (3, 3),
        (5, 5),
        (7, 7),
        (3, 3),
        (1, 9),
        (9, 1),
        (5, 5),
        (3, 11),
        (5, 7),
        (7, 7),
        (3, 3),
    )
    channels = rng.choice([4, 5, 6, 7, 8, 9, 16, 19, 33, 64], len(kernels))
    cases = [
        depthwise(rng, f"d{k}", kernel, int(c))
        for k, (kernel, c) in enumerate(zip(kernels, channels, strict=True))
    ]
    check(cases, "mve_depthwise_int8")


def test_the_largest_sums():
    """Every product as large as it can be, every accumulator at its end, both signs."""
    cases: list[OpCase] = []
    for k, (x, w) in enumerate([(-128, -128), (-128, 127), (127, -128), (127, 127)]):
        for depth, kernel, groups in ((512, (1, 1), 1), (32, (3, 3), 1), (1, (7, 7), 8)):
            shape = (3, 4, depth * groups)
            weights = np.full((8, *kernel, depth), w, np.int8)
            bias = np.full(8, (1 << 30) * (1 if k % 2 else -1), np.int32)
            scale = multipliers_and_shifts(np.geomspace(1e-9, 0.2, 8))
            pads = (kernel[0] // 2, kernel[1] // 2) * 2
            op = ConvInt8(Window(kernel, pads=pads), -128 if k < 2 else 127, k - 2, groups)
            data = (np.full(shape, x, np.int8), weights, bias, *scale)
            cases.append(OpCase(f"x{k}_{depth}", op, data, CONSTANTS))
    check(cases, "mve_conv_int8", "mve_depthwise_int8")


def test_rounding_is_half_up_at_every_shift():
    """Accumulators around every tie, through a bias alone."""
    cases: list[OpCase] = []
    for shift in (33, 34, 38, 47, 62):
        rng = np.random.default_rng(shift)
        ties = (np.arange(-32, 32) * 2 + 1) << max(0, shift - 32)  # times 2^30: odd multiples of half a step
        bias = np.clip(ties[:, None] + np.arange(-1, 2), -(2**30), 2**30).reshape(-1).astype(np.int32)
        multiplier, right = np.full(len(bias), 1 << 30, np.int32), np.full(len(bias), shift, np.int8)
        multiplier[::5] -= rng.integers(0, 1 << 20)
        weights = np.zeros((len(bias), 16), np.int8)
        op = DenseInt8(5, -1)
        cases.append(OpCase(f"s{shift}", op, (int8(rng, 16), weights, bias, multiplier, right), CONSTANTS))
    check(cases, "mve_conv_int8")


def test_elementwise_of_any_length():
    cases: list[OpCase] = []
    for channels in (1, 2, 3, 4, 5, 15, 16, 17, 40):
        rng = np.random.default_rng(channels)
        a, b = (int8(rng, 3, 5, channels) for _ in range(2))
        zero, low, high = limits(rng)
        scale = [int(m) for m in rng.integers(1 << 29, 1 << 31, 2)]
        add = AddInt8((-3, 127), (scale[0], -scale[1]), int(rng.integers(30, 34)), zero, low, high)
        mul = MulInt8((5, -128), *multiplier_and_shift(float(rng.uniform(0.001, 0.3))), zero, low, high)
        cases.append(OpCase(f"add{channels}", add, (a, b)))
        cases.append(OpCase(f"mul{channels}", mul, (a, b)))
        cases.append(OpCase(f"gate{channels}", mul, (int8(rng, 1, 1, channels), b)))
        cases.append(OpCase(f"single{channels}", add, (int8(rng, 3, 5, 1), b)))
        cases.append(
            OpCase(f"lookup{channels}", Lookup(), (a, np.arange(127, -129, -1, np.int8)), (False, True))
        )
    check(cases, "mve_add_int8", "mve_mul_int8", "mve_lookup")


def test_pools_of_any_shape():
    cases: list[OpCase] = []
    for channels in (1, 7, 8, 9, 16, 24, 35, 48):
        rng = np.random.default_rng(channels)
        shape = (*sides(rng, 5, 10), channels)
        kernel = sides(rng, 1, 4)
        taps = kernel[0] * kernel[1]
        for k, window in enumerate((Window(kernel, sides(rng, 1, 3)), window_of(rng, kernel, shape))):
            x = int8(rng, *shape)
            table = multipliers_and_shifts(np.array([rng.uniform(0.01, 0.24)]))
            cases.append(OpCase(f"max{channels}_{k}", MaxPool(window), (x,)))
            op = AveragePoolInt8(window, -128 if k else 17, *limits(rng)[:1])
            cases.append(OpCase(f"average{channels}_{k}", op, (x, *table), CONSTANTS))
        scale = multiplier_and_shift(rng.uniform(0.3, 0.9) / taps)
        for rows, cols in ((4, 5), (20, 17)):
            op = MeanInt8((0, 1), int(rng.integers(-128, 128)), -7, *scale)
            cases.append(OpCase(f"mean{channels}_{rows}", op, (int8(rng, rows, cols, channels),)))
    check(cases, "mve_max_pool_int8", "mve_average_pool_int8", "mve_mean_int8")


def test_averages_in_every_form():
    """Windows spelled out or not, sums in 16 or 32 bits, scales that lanes are enough for or not."""
    cases: list[OpCase] = []
    windows = (Window((2, 2), (2, 2)), Window((1, 3)), Window((3, 3)), Window((2, 2), pads=(1, 1, 0, 0)))
    for k, (window, scale) in enumerate(product((*windows, Window((12, 11))), (1.0, 0.8731, 30.0))):
        rng = np.random.default_rng(k)
        for channels in (6, 9, 32):
            x = int8(rng, 13, 12, channels)
            x[:4] = rng.choice(np.array([-128, 127], np.int8), (4, 12, channels))
            taps = window.kernel[0] * window.kernel[1]
            zero, low, high = limits(rng)
            x_zero = int(rng.choice([-128, 127, 4]))
            op = AveragePoolInt8(window, x_zero, zero, low=low, high=high)
            table = multipliers_and_shifts(np.array([scale / taps]))
            cases.append(OpCase(f"average{k}_{channels}", op, (x, *table), CONSTANTS))
        mean = MeanInt8((0, 1), x_zero, zero, *multiplier_and_shift(scale / 24), low=low, high=high)
        cases.append(OpCase(f"mean{k}", mean, (int8(rng, 4, 6, 16),)))
    bench = QemuBench(cases, ready("cortex-m55"))
    made = {(k.template, k.options["form"]) for k in bench.package.kernels if "form" in k.options}
    assert made == set(product(("mve_average_pool_int8", "mve_mean_int8"), ("halves", "words")))
    bench.check_all()


@pytest.mark.quick
def test_packed_weights_keep_every_weight_once():
    w = np.arange(8 * 3 * 21).reshape(8, 3, 21).astype(np.int8)
    packed = pack_runs(w)
    assert np.array_equal(np.sort(packed.reshape(-1)), np.sort(w.reshape(-1)))
    assert np.array_equal(packed[0, :64].reshape(4, 16), w[:4, 0, :16])
    assert np.array_equal(packed[0, 64:84].reshape(4, 5), w[:4, 0, 16:])


def constants(case: OpCase) -> tuple[str, dict[str, int]]:
    """The kernel of a case that has whole tensors, and bytes of its constants."""
    tensors, arrays = {}, {}
    node = Bench._node(case, "whole", tensors, arrays)
    graph = Graph("one", tensors, arrays, (node,), (), ())
    use = kernel_use(node.op, planning_site(graph, 0, load_target("cortex-m55")))
    found = ((name, value) for name, value in use.fields if isinstance(value, Constant))
    return use.template, {name: value.data.nbytes for name, value in found}


@pytest.mark.quick
def test_a_vector_behind_the_last_weights_is_there():
    """Loads of a rest read 16 bytes, which may be all that a package has: those of a block's last filter, and
    of a cell's last gate but one row."""
    for values, filters in product((*range(1, 18), 32, 41), (1, 4, 6)):
        made = dense(f"line_{values}_{filters}", (values,), filters)
        sums = dense_to_float(f"sums_{values}_{filters}", (values,), filters)
        blocks, rest = -(-filters // 4), values % 16
        for case, scale in ((made, 20), (sums, 0)):
            template, held = constants(case)
            last = blocks * (16 + 4 * values + scale) - scale - (rest or 16)
            assert template == "mve_conv_int8"
            assert last + 16 <= held["stream"] < last + 16 + 4 + scale, case.name
    for cell, units in product(("rnn", "gru", "lstm"), range(1, 20)):
        template, held = constants(cells(f"{cell}_{units}", 2, 3, cell, units))
        gates, rest = {"rnn": (1,), "gru": (2, 1), "lstm": (4,)}[cell], units % 16
        assert template == "recurrent_int8"
        for k, count in enumerate(gates):
            end = -(-units // 4) * count * (16 + 4 * 3 + 16 + 4 * units)
            assert end - 2 * rest + (16 if rest else 0) <= held[f"weights{k}"] <= end + 16, (cell, units)


@pytest.mark.parametrize(("cols", "channels", "axes"), [(5, 30, (0, 1)), (5, 25, (0,)), (1, 40, (0, 1))])
def test_sums_that_take_in_row_by_row(cols, channels, axes, tmp_path):
    """A mean at the end of a group, over rows or rows and columns, with channels that leave a rest."""
    b = Build("sums")
    x = b.conv(b.input(12, cols, 8), channels, 1)
    y = b.add(MeanInt8(axes, 3, -7, 1_431_655_765, 33), x)
    graph = filled(b.graph(y), 5)
    plan = best_plan(graph, request(graph))
    assert plan.accumulators
    target = ready("cortex-m55")
    made = emit(
        Module.of(graph),
        lower(Module.of(graph), MemoryPlan.of(plan), NAME, target),
        EmitOptions(NAME),
        target,
    )
    for name, text in made.files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "adapter.c").write_text(render("adapter.c.j2", on_heap=False, **made.values))
    elf = build_firmware(target, sorted(tmp_path.glob("*.c")), [tmp_path], tmp_path / "build")
    samples = np.random.default_rng(1).integers(-128, 128, (4, 12, cols, 8)).astype(np.int8)
    ran = run_firmware(elf, target, samples.tobytes(), samples[0].nbytes, tmp_path / "run")
    want = [evaluate_tensors(graph, {"x0": sample})[y] for sample in samples]
    assert len(np.unique(want)) > 10
    assert ran.outputs == b"".join(w.tobytes() for w in want)
