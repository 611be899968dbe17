# SPDX-License-Identifier: Apache-2.0
"""Kernels for Armv6-M on an emulated board: two pixels in one multiplication, up to the ends of 16 bits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_bench import compile_kernels
from mmcc.kernels.armv6m.conv import VARIANT, fits
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.window import Window
from op_case import OpCase
from op_cases_int8 import FAMILIES
from op_cases_int8_layers import conv, conv_to_float, dense, dense_to_float, pads
from qemu_bench import QemuBench
from random_int8 import convolutions
from toolchains import ready

TARGET = "cortex-m0plus"
PAIRS = {"pointwise_pairs", "conv_pairs"}
LAYERS = (ConvInt8, DenseInt8, ConvInt8ToFloat, DenseInt8ToFloat)
SAME, ONE = Window((3, 3), pads=pads(1, 1, 1, 1)), Window((1, 1))


def with_weights(case: OpCase, w: np.ndarray, what: str) -> OpCase:
    return OpCase(f"{case.name}_{what}", case.op, (case.inputs[0], w, *case.inputs[2:]), case.constant)


def halved(case: OpCase) -> OpCase:
    """Its weights, and none of -128 beside another: those before an odd tap are -127."""
    w = case.inputs[1].copy()
    flat = w.reshape(w.shape[0], -1)
    flat[:, ::2] = np.maximum(flat[:, ::2], -127)
    return with_weights(case, w, "halved")


def own_cases() -> list[OpCase]:
    down = Window((3, 3), (2, 2), (1, 1), pads(0, 0, 1, 1))
    cases = [conv(f"v6m_point_{c}_{f}", (3, 5, c), f, ONE) for c, f in ((8, 4), (12, 9), (9, 5), (144, 6))]
    cases += [conv(f"v6m_conv_{c}_{f}", (5, 7, c), f, SAME) for c, f in ((1, 4), (3, 8), (8, 5), (24, 11))]
    cases += [
        conv("v6m_point_stride", (7, 8, 8), 9, Window((1, 1), (2, 3))),
        conv("v6m_point_low", (3, 4, 8), 9, ONE, low=-20, high=90),
        conv("v6m_point_column", (7, 1, 16), 6, ONE),
        conv("v6m_conv_down", (8, 9, 12), 10, down, low=11),
        conv("v6m_conv_5", (7, 6, 4), 9, Window((5, 5), pads=pads(2, 2, 2, 2))),
        conv("v6m_conv_dilated", (9, 12, 8), 6, Window((3, 3), (1, 1), (2, 3), pads(2, 3, 2, 3))),
        conv("v6m_conv_valid", (6, 8, 5), 6, Window((3, 3))),
        conv("v6m_conv_far", (4, 5, 4), 5, Window((3, 3), (2, 2), (1, 1), pads(4, 3, 5, 6))),
        conv("v6m_conv_wide", (5, 6, 6), 5, SAME, "wide"),
        conv("v6m_conv_left", (5, 6, 6), 5, SAME, "left"),
        conv("v6m_conv_fraction", (5, 7, 8), 9, SAME, bias_bits=3),
        conv("v6m_conv_most", (4, 4, 64), 4, SAME),
        conv("v6m_conv_too_many", (4, 4, 65), 4, SAME),
        conv("v6m_first", (12, 8, 1), 7, Window((10, 4), (2, 2), (1, 1), pads(4, 1, 5, 1))),
        dense("v6m_dense_rows", (5, 12), 9),
        conv_to_float("v6m_float", (3, 6, 8), 6, SAME),
        dense_to_float("v6m_dense_float", (4, 16), 5),
    ]
    return [*cases, *map(halved, cases), *extremes()]


def extremes() -> list[OpCase]:
    """Sums of two products as far from 0 as they come: of -128, and of 127, with weights of either sign."""
    point, image = conv("v6m_ends_point", (2, 3, 16), 6, ONE), conv("v6m_ends", (4, 5, 6), 6, SAME)
    found: list[OpCase] = []
    for case in (point, image):
        shape = case.inputs[1].shape
        flat = np.empty((shape[0], int(np.prod(shape[1:]))), np.int8)
        flat[:, ::2], flat[:, 1::2] = -127, -128
        mixed = flat.copy()
        mixed[1::2] = 127
        for name, w in (("low", flat), ("mixed", mixed), ("beyond", np.full_like(flat, -128))):
            made = with_weights(case, w.reshape(shape), name)
            for x in (-128, 127):
                inputs = (np.full_like(made.inputs[0], x), *made.inputs[1:])
                found.append(OpCase(f"{made.name}_{x}", made.op, inputs, made.constant))
            found.append(made)
    return found


@cache
def own_bench() -> QemuBench:
    return QemuBench(own_cases(), ready(TARGET))


def templates(bench: QemuBench) -> set[str]:
    return {kernel.template for kernel in bench.package.kernels}


def test_layers_of_every_int8_case():
    cases = [case for make in FAMILIES.values() for case in make() if isinstance(case.op, LAYERS)]
    QemuBench([*cases, *map(halved, cases)], ready(TARGET)).check_all()


def test_own_shapes():
    own_bench().check_all()


def test_small_frames_take_kernels_of_less_stack():
    """So a limit that was kept without these kernels is kept."""
    some = own_cases()[:6]
    small = QemuBench(some, replace(ready(TARGET), small_frames=True))
    assert templates(QemuBench(some, ready(TARGET))) >= PAIRS
    assert not PAIRS & templates(small)


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(convolutions(), min_size=16, max_size=16))
def test_generated_shapes(cases):
    named = [OpCase(f"case{k}", c.op, c.inputs, c.constant) for k, c in enumerate(cases)]
    QemuBench([*named, *map(halved, named)], ready(TARGET)).check_all()


@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os"])
@pytest.mark.parametrize("compiler", ["arm-none-eabi-gcc", "clang"])
def test_other_compilers_and_levels(compiler, level, tmp_path):
    """The assembly needs every register, which must not depend on what a compiler keeps for itself."""
    compile_kernels(own_bench(), ready(TARGET), compiler, level, tmp_path)


@pytest.mark.quick
def test_two_weights_of_least_value_side_by_side_do_not_fit():
    assert fits(np.array([[-128, 127, 5, -128], [127, -128, -128, 127]], np.int8))
    assert not fits(np.array([[1, 2, 3, 4], [5, 6, -128, -128]], np.int8))
    assert 128 * (127 + 128) < 2**15 <= 128 * 256


@pytest.mark.quick
def test_the_target_has_the_variant():
    assert VARIANT in ready(TARGET).kernels
