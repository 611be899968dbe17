# SPDX-License-Identifier: Apache-2.0
"""Kernels for DSP instructions, on emulated boards: every int8 case, shapes of their own, generated ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_bench import compile_kernels
from mmcc.kernels.arm_dsp.conv import LEAST, VARIANT, quads
from mmcc.kernels.arm_dsp.filters import scalable, scaled
from mmcc.kernels.contract import LESS_STACK
from mmcc.ops.activation import Clamp, Leaky
from mmcc.ops.conv import ConvInt8
from mmcc.ops.window import Window
from mmcc.toolchain.stack.walk import Walk, read_listing
from op_case import OpCase, rng_of
from op_cases_int8 import FAMILIES, add, mean, mul
from op_cases_int8_layers import (
    CONSTANTS,
    conv,
    conv_to_float,
    dense,
    dense_to_float,
    int8,
    pads,
    per_filter,
)
from op_cases_int16 import conv16, dense16, int16_elementwise_cases, int16_layer_cases
from qemu_bench import QemuBench
from random_int8 import averages, convolutions, sums
from toolchains import ready

TARGETS = ("cortex-m4", "cortex-m7", "cortex-m33")
LENT = {"pointwise_four", "conv_four", "patch_four", "depthwise_chunks"}  # with memory to work in


def gentle(case: OpCase) -> OpCase:
    """The case with weights as trained ones are, so that they can be packed as "scaled"."""
    w = np.clip(np.round(rng_of(case.name).normal(0, 36, case.inputs[1].shape)), -127, 127).astype(np.int8)
    return OpCase(f"{case.name}_gentle", case.op, (case.inputs[0], w, *case.inputs[2:]), case.constant)


def own_cases() -> list[OpCase]:
    same, down = Window((3, 3), pads=pads(1, 1, 1, 1)), Window((3, 3), (2, 2), (1, 1), pads(0, 0, 1, 1))
    one = Window((1, 1))
    cases = [dense(f"dsp_dense_{n}_{f}", (n,), f) for n, f in ((4, 1), (8, 4), (12, 9), (36, 13), (256, 24))]
    cases += [conv(f"dsp_point_{c}_{f}", (3, 5, c), f, one) for c, f in ((4, 8), (8, 3), (20, 12), (64, 23))]
    cases += [dense_to_float(f"dsp_sums_{n}_{f}", (n,), f) for n, f in ((4, 1), (8, 8), (36, 13), (256, 24))]
    cases += [conv(f"dsp_conv_{c}_{f}", (5, 7, c), f, same) for c, f in ((4, 8), (8, 5), (24, 11))]
    cases += [
        conv("dsp_point_stride", (7, 8, 8), 9, Window((1, 1), (2, 3))),
        conv("dsp_point_low", (3, 4, 8), 9, one, low=-20, high=90),
        conv("dsp_conv_down", (8, 9, 12), 10, down, low=11),
        conv("dsp_conv_5", (7, 6, 4), 9, Window((5, 5), pads=pads(2, 2, 2, 2))),
        conv("dsp_conv_dilated", (9, 12, 8), 6, Window((3, 3), (1, 1), (2, 3), pads(2, 3, 2, 3))),
        conv("dsp_patch", (7, 9, 3), 13, same),
        dense("dsp_dense_fraction", (36,), 13, bias_bits=8),
        dense("dsp_dense_fraction_fine", (36,), 13, bias_bits=9),
        conv("dsp_conv_fraction", (5, 7, 8), 9, same, bias_bits=3),
        conv("dsp_patch_fraction", (7, 9, 3), 13, same, bias_bits=5),
        dense_to_float("dsp_sums_rows", (5, 12), 11, x_zero=-128, activation=Leaky(0.125)),
        dense_to_float("dsp_sums_long", (1040,), 5, x_zero=127),  # 256 times the sum does not fit 32 bits
        dense_to_float(
            "dsp_sums_zero", (5, 12), 6, w_zero=-100
        ),  # nor do weights less their zero point fit 8
        conv_to_float("dsp_sums_stride", (7, 8, 8), 9, Window((1, 1), (2, 3)), activation=Clamp(0.0, 6.0)),
        conv("dsp_patch_column", (9, 4, 5), 6, Window((4, 1), (2, 1), (1, 1), pads(1, 0, 2, 0))),
    ]
    return [*cases, *map(gentle, cases), *fixed_cases(), *depthwise_cases(), *alone(), *packed_by_four()]


def alone() -> list[OpCase]:
    """Depthwise windows inside images one column wide, as streams have them."""
    windows = {
        "column": ((9, 1, 12), Window((5, 1))),
        "dilated": ((11, 1, 4), Window((3, 1), (2, 1), (4, 1))),
        "row": ((3, 4, 8), Window((1, 4))),
        "square": ((4, 3, 20), Window((3, 3))),
        "many": ((16, 1, 8), Window((13, 1))),
        "one": ((3, 1, 4), Window((1, 1))),
    }
    cases = [conv(f"alone_{k}", x, x[2], w, groups=x[2]) for k, (x, w) in windows.items()]
    x, w = windows["column"]
    return [*cases, conv("alone_ends", x, 12, w, groups=12, zeros=(-128, 127), low=-100, high=40)]


def fixed_cases() -> list[OpCase]:
    """Filters whose output is always the same: enormous biases, scales next to nothing."""
    cases: list[OpCase] = []
    for name, op, x, shape in (
        ("point", ConvInt8(Window((1, 1)), -128, -128), (3, 5, 16), (9, 1, 1, 16)),
        ("conv", ConvInt8(Window((3, 3), pads=pads(1, 1, 1, 1)), 5, -3), (4, 5, 8), (6, 3, 3, 8)),
        ("depthwise", ConvInt8(Window((3, 3), pads=pads(1, 1, 1, 1)), -7, 9, 8), (4, 5, 8), (8, 3, 3, 1)),
    ):
        rng = rng_of(name)
        bias, multiplier, shift = per_filter(rng, shape[0], "high")
        wild, tiny, small = per_filter(rng, shape[0], "tiny", bias=2**29)
        odd = np.arange(shape[0]) % 3 > 0
        scale = (np.where(odd, wild, bias), np.where(odd, tiny, multiplier), np.where(odd, small, shift))
        inputs = (
            int8(rng, *x),
            int8(rng, *shape),
            *(a.astype(t) for a, t in zip(scale, (np.int32, np.int32, np.int8), strict=True)),
        )
        cases.append(OpCase(f"dsp_fixed_{name}", op, inputs, CONSTANTS))
    return cases


def depthwise_cases() -> list[OpCase]:
    """Every window up to 7x7, rows shorter and longer than what is widened at a time."""
    cases = [
        conv(
            f"dsp_depthwise_{kh}x{kw}",
            (8, 9, 8),
            8,
            Window((kh, kw), pads=pads(kh // 2, kw // 2, kh // 2, kw // 2)),
            groups=8,
        )
        for kh in (1, 2, 3, 4, 5, 6, 7)
        for kw in (1, 3, 6, 7)
    ]
    for stride in (1, 2, 3):
        for width in (1, 2, 3, 4, 5, 13, 31, 44):
            window = Window((3, 3), (stride, stride), (1, 1), pads(1, 1, 1, 1))
            cases.append(conv(f"dsp_depthwise_s{stride}_{width}", (4, width, 4), 4, window, groups=4))
    tall = Window((3, 3), (1, 1), (2, 1), pads(2, 1, 2, 1))
    return [
        *cases,
        conv("dsp_depthwise_dilated_rows", (9, 7, 12), 12, tall, groups=12),
        conv("dsp_depthwise_valid", (7, 20, 4), 4, Window((3, 3)), groups=4),
        conv("dsp_depthwise_far", (4, 5, 8), 8, Window((3, 3), (2, 2), (1, 1), pads(4, 3, 5, 6)), groups=8),
        *beyond(),
        conv("dsp_depthwise_low", (5, 19, 8), 8, Window((3, 3)), groups=8, low=-60, high=60),
        conv(
            "dsp_depthwise_zeros",
            (5, 9, 8),
            8,
            Window((5, 5), pads=pads(2, 2, 2, 2)),
            groups=8,
            zeros=(-128, 127),
        ),
    ]


def beyond() -> list[OpCase]:
    """Padding so wide that whole stretches of outputs see nothing of the image, before it or behind."""
    cases: list[OpCase] = []
    for stride in (1, 2, 3):
        for left, right in ((0, 50), (50, 0), (40, 61)):
            window = Window((3, 3), (1, stride), (1, 1), pads(1, left, 1, right))
            name = f"dsp_%s_beyond_{stride}_{left}_{right}"
            cases += [
                conv(name % "depthwise", (4, 4, 8), 8, window, groups=8),
                conv(name % "conv", (4, 4, 8), 5, window),
                conv(name % "patch", (4, 4, 3), 5, window),
            ]
    return cases


def packed_by_four() -> list[OpCase]:
    """Elementwise and reducing operators whose pixels are whole words, and some that are not."""
    cases: list[OpCase] = []
    for channels in (1, 4, 7, 8, 12, 64):
        shape = (3, 5, channels)
        cases += [
            add(f"dsp_add_{channels}", shape, shape),
            add(f"dsp_add_low_{channels}", shape, shape, low=-9, high=33),
            mul(f"dsp_mul_{channels}", shape, shape, 0.01),
            mean(f"dsp_mean_{channels}", (7, 9, channels), (0, 1)),
        ]
    return cases


@pytest.mark.parametrize(
    "family",
    [
        *("pointwise", "conv", "depthwise", "tiled", "elementwise", "pool", "reduce", "matmul", "layer_norm"),
        *("recurrent_int8", "int16_piecewise", "int16_softmax", "int16_layer_norm", "int16_matmul"),
    ],
)
def test_every_int8_case(family):
    QemuBench(FAMILIES[family](), ready("cortex-m4")).check_all()


def test_every_case_of_16_bits():
    """And how many instructions a product takes: with 48 channels, with 256, depthwise."""
    short, long = conv16("dsp16_48", (8, 1, 48), 48, Window((1, 1))), dense16("dsp16_256", (256,), 64)
    depthwise = conv16("dsp16_depthwise", (8, 8, 64), 64, Window((3, 3), pads=pads(1, 1, 1, 1)), groups=64)
    cases = [*int16_layer_cases(), *int16_elementwise_cases(), short, long, depthwise]
    bench = QemuBench(cases, ready("cortex-m4"))
    bench.check_all()
    for case, most in ((short, 1.35), (long, 1.1), (depthwise, 3.97)):
        assert bench.instructions(case.name) / case.nest.macs <= most, case.name


def test_windows_with_outputs_in_float():
    """By runs and gathered, scaled and plain, at borders; what a multiply-accumulate takes."""
    same = Window((3, 3), pads=pads(1, 1, 1, 1))
    cases = (
        (conv_to_float("sums_16", (8, 8, 16), 16, same), 1.75),
        (conv_to_float("sums_3", (8, 8, 3), 16, same), 3.05),
        (gentle(conv_to_float("sums_zero", (8, 9, 8), 13, replace(same, strides=(2, 1)), w_zero=1)), 2.3),
        (conv_to_float("sums_apart", (9, 9, 20), 9, Window((3, 2), (1, 1), (2, 3), (1, 0, 0, 1))), 2.6),
    )
    bench = QemuBench([case for case, _ in cases], ready("cortex-m4"))
    assert {kernel.template for kernel in bench.package.kernels} == {"conv_dsp", "patch_dsp"}
    bench.check_all()
    for case, most in cases:
        assert bench.instructions(case.name) / case.nest.macs <= most, case.name


@cache
def own_bench(target: str, lent: str = "") -> QemuBench:
    """Shared: building it takes longer than what tests do with it."""
    return QemuBench(own_cases(), ready(target), lent=lent)


@pytest.mark.parametrize("target", TARGETS)
def test_shapes_of_their_own(target):
    bench = own_bench(target)
    bench.check_all()
    used = {kernel.template for kernel in bench.package.kernels}
    assert used >= {
        "pointwise_dsp",
        "pointwise_sums",
        "conv_dsp",
        "patch_dsp",
        "depthwise_dsp",
        "depthwise_pixel",
    }
    assert not used & LENT
    forms = {kernel.options.get("form") for kernel in bench.package.kernels}
    assert forms >= {"scaled", "plain"}


def test_shapes_of_their_own_with_memory_to_work_in():
    """Windows of every form, rows of any width: pixels and outputs that are left over."""
    bench = own_bench("cortex-m4", lent="least")
    bench.check_all()
    used = {kernel.template for kernel in bench.package.kernels}
    assert used >= LENT
    chunks = {
        (kernel.options["stride"], kernel.options["chunk"])
        for kernel in bench.package.kernels
        if "chunk" in kernel.options
    }
    assert {stride for stride, _ in chunks} == {1, 2}
    assert {chunk for _, chunk in chunks} >= {2, 3, 4, 5}


@pytest.mark.parametrize("lent", ["", "least"], ids=["on-the-stack", "lent"])
def test_depthwise_kernels_that_take_little_stack(lent):
    """Every window, rows of any width: fewer columns are widened at a time, in memory lent if there is."""
    bench = QemuBench(depthwise_cases(), replace(ready("cortex-m4"), small_frames=True), lent=lent)
    bench.check_all()
    made = [kernel.options for kernel in bench.package.kernels if kernel.template == "depthwise_dsp"]
    assert {options["columns"] - options["cols"] for options in made} == {LEAST}
    assert {options["lent"] for options in made} == {bool(lent)}


def test_kernels_that_are_said_to_take_less_stack_do():
    """Of every case whose kernel works in memory lent: the bound of its function and all that it calls."""
    target = replace(ready("cortex-m4"), small_frames=True)
    bounds: list[dict[str, tuple[str, int]]] = []
    for lent in ("", "least"):
        bench = QemuBench(own_cases(), target, lent=lent)
        walk = Walk(read_listing(bench.elf, target), {}, target)
        kernels = bench.package.kernels
        bounds.append({u: (k.template, walk.bound(k.name).bytes) for k in kernels for u in k.users})
    pairs = [(bounds[0][user], found) for user, found in bounds[1].items() if found[0] in LESS_STACK]
    assert {template for _, (template, _) in pairs} == set(LESS_STACK)
    assert [pair for pair in pairs if pair[1][1] > pair[0][1]] == []


@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os"])
@pytest.mark.parametrize("compiler", ["arm-none-eabi-gcc", "clang"])
def test_other_compilers_and_levels(compiler, level, tmp_path):
    """The assembly needs every register, which must not depend on what a compiler keeps for itself."""
    compile_kernels(own_bench("cortex-m4", lent="least"), ready("cortex-m4"), compiler, level, tmp_path)


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m55", "rv32imac"])
@settings(max_examples=1, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(averages(), sums()), min_size=24, max_size=24))
def test_generated_pools_and_sums(target, drawn):
    """On boards of every kind: portable C too is compiled to other instructions there."""
    rng = np.random.default_rng(len(drawn))
    cases: list[OpCase] = []
    for k, case in enumerate(drawn):
        if isinstance(case, OpCase):
            cases.append(OpCase(f"case{k}", case.op, case.inputs, case.constant))
        else:
            shape = (2, 3, int(rng.integers(1, 40)))
            cases.append(OpCase(f"case{k}", case, (int8(rng, *shape), int8(rng, *shape))))
    QemuBench(cases, ready(target)).check_all()


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3"])
def test_depthwise_rows_of_any_width(target):
    """Portable C makes other numbers of neighbours for widths that three divides."""
    windows = (Window((3, 3), pads=pads(1, 1, 1, 1)), Window((3, 3), (2, 2), (1, 1), pads(0, 0, 1, 1)))
    cases = [
        conv(f"w{width}_{k}", (4, width, 3), 3, window, groups=3)
        for width in range(1, 20)
        for k, window in enumerate(windows)
        if width > 1 or k == 0
    ]
    QemuBench(cases, ready(target)).check_all()


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(convolutions(), min_size=16, max_size=16), st.randoms(use_true_random=False))
def test_generated_shapes(cases, random):
    """As they come, and with channels made whole words."""
    named = [OpCase(f"case{k}", c.op, c.inputs, c.constant) for k, c in enumerate(cases)]
    wide = [widened(case, random.choice((4, 8, 12))) for case in named]
    for lent in (False, True):
        QemuBench([*named, *wide, *map(gentle, wide)], ready("cortex-m4"), lent=lent).check_all()


def widened(case: OpCase, channels: int) -> OpCase:
    """The same window over another number of channels: ordinary, or depthwise where it was grouped."""
    name, x = f"{case.name}_{channels}", case.inputs[0]
    rng = rng_of(name)
    op: ConvInt8 = case.op
    depthwise = op.groups > 1
    filters = channels if depthwise else int(rng.integers(1, 20))
    made = ConvInt8(op.window, op.x_zero, op.y_zero, channels if depthwise else 1, 0, op.low, op.high)
    w = int8(rng, filters, *op.window.kernel, 1 if depthwise else channels)
    inputs = (int8(rng, *x.shape[:2], channels), w, *per_filter(rng, filters, "high"))
    return OpCase(name, made, inputs, CONSTANTS)


@pytest.mark.quick
def test_scaled_weights_hold_their_pairs():
    w = np.array([[-128, 3, 5, -7], [127, -127, -127, 127]], np.int8)
    assert scalable(w)
    halves = scaled(w).view("<i2")
    assert halves.tolist() == [[-128 * 256 + 3, 5 * 256 - 7], [127 * 256 - 127, -127 * 256 + 127]]
    assert not scalable(np.array([[-128, -1]], np.int8))


@pytest.mark.quick
def test_packing_a_depthwise_window_keeps_every_weight_once():
    w = np.arange(8 * 15, dtype=np.int8).reshape(8, 5, 3)
    assert sorted(quads(w).view(np.int8).reshape(-1).tolist()) == sorted(w.reshape(-1).tolist())


@pytest.mark.quick
def test_the_targets_have_the_variant():
    assert all(VARIANT in ready(name).kernels for name in TARGETS)
