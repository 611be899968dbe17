# SPDX-License-Identifier: Apache-2.0
"""Winograd's float convolutions: near plain sums, and of the same bits however rows and columns are cut."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_bench import Bench
from mmcc.driver.by_hops import kernels_of_hops
from mmcc.ir.element_type import ElementType
from mmcc.ir.streaming import Streaming
from mmcc.ir.types import Tensor
from mmcc.kernels.winograd.conv_float import TEMPLATE, transformed
from mmcc.ops.activation import Leaky
from mmcc.ops.conv import Conv
from mmcc.ops.window import Window
from mmcc.ops.winograd import in_tiles
from mmcc.target import load_target
from op_case import OpCase, rng_of
from op_case_values import LAYER, RELU, RELU6, real
from op_cases_float_layers import by_columns, conv
from qemu_bench import QemuBench
from random_float import seeds
from toolchains import ready

HERE = replace(load_target("host"), kernels=load_target("aarch64").kernels)  # the same C runs everywhere
SAME = Window((3, 3), pads=(1, 1, 1, 1))
VALUES = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
OUTPUTS = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def near(case: OpCase) -> tuple[float, float]:
    """A fifth of the difference that verification allows: of the largest sum."""
    (sums,) = replace(case.op, activation=None).reference(*case.inputs)
    return 0.0, 2e-6 * float(abs(sums).max())


def inexact(case: OpCase) -> OpCase:
    """With values whose sums are rounded."""
    rng = rng_of(case.name)
    return replace(case, inputs=tuple(real(rng, *each.shape) for each in case.inputs))


def layers() -> list[OpCase]:
    """Tiles at every border, groups of every number of tiles, filters that fill no block or several."""
    sizes = [(4, 4), (7, 9), (5, 14), (6, 23), (8, 5), (4, 26), (11, 12), (10, 7)]
    channels = [(16, 1), (32, 16), (16, 70), (48, 17), (64, 40), (16, 33), (32, 64), (16, 8)]
    activations = (None, RELU, RELU6, Leaky(0.125))
    cases = [
        conv(
            f"wino_{rows}x{cols}_{depth}_{filters}", (rows, cols, depth), filters, SAME, 1, activations[k % 4]
        )
        for k, ((rows, cols), (depth, filters)) in enumerate(zip(sizes, channels, strict=True))
    ]
    cases += [
        conv("wino_valid", (8, 13, 16), 20, Window((3, 3))),
        conv("wino_skewed", (7, 10, 16), 9, Window((3, 3), pads=(2, 0, 0, 2))),
        conv("wino_far", (6, 8, 16), 8, Window((3, 3), pads=(5, 4, 3, 6))),
        conv("wino_by_columns", (7, 11, 32), 20, by_columns((3, 3), pads=(1, 2, 1, 1)), 1, RELU),
    ]
    return [*cases, *(inexact(replace(case, name=f"{case.name}_inexact")) for case in cases[::3])]


@cache
def bench(*, backward: bool) -> Bench:
    return Bench(layers(), HERE, backward=backward)


@pytest.mark.parametrize("backward", [False, True])
def test_every_way_gives_the_same_bits(backward: bool) -> None:
    made = bench(backward=backward)
    for name in made.cases:
        made.check(name, near(made.cases[name]))
    assert {kernel.template for kernel in made.package.kernels} == {TEMPLATE}


def test_over_inputs() -> None:
    made = Bench(layers(), HERE, places="near")
    for name in made.cases:
        made.check(name, near(made.cases[name]))


def test_other_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """AVX2, SSE2, and C without vectors."""
    for flags in ("-mno-avx512f", "-mno-avx", "-mno-avx -U__SSE2__"):
        monkeypatch.setenv("MMCC_BENCH_FLAGS", f"-march=native {flags}")
        made = Bench(layers()[1:8:3], HERE, sanitize=False)
        for name in made.cases:
            made.check(name, near(made.cases[name]))


def test_on_aarch64() -> None:
    made = QemuBench(layers()[:12], ready("aarch64"))
    made.check_all()
    assert {kernel.template for kernel in made.package.kernels} == {TEMPLATE}


def test_it_takes_fewer_instructions() -> None:
    """Of layers of ResNet-50: all rows, transforms included."""
    plain = replace(ready("aarch64"), kernels=("simd", "portable"))
    cases = [conv("middle", (14, 14, 64), 64, SAME), conv("last", (7, 7, 128), 64, SAME)]
    made = [QemuBench(cases, target) for target in (ready("aarch64"), plain)]
    for each in made:
        each.run()
    for name, most in (("middle", 0.66), ("last", 0.8)):
        ours, others = (each.instructions(name) for each in made)
        assert ours < most * others, (name, ours, others)


@st.composite
def drawn(draw) -> OpCase:
    shape = (draw(st.integers(4, 11)), draw(st.integers(4, 21)), 16 * draw(st.integers(1, 4)))
    pads = tuple(draw(st.integers(0, 3)) for _ in range(4))
    filters, rng = draw(st.integers(1, 70)), draw(seeds())
    w = real(rng, filters, 3, 3, shape[2])
    op = Conv(
        Window((3, 3), pads=pads, columns_first=draw(st.booleans())), 1, draw(st.sampled_from((None, RELU)))
    )
    return OpCase("case", op, (real(rng, *shape), w, real(rng, filters)), LAYER)


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(drawn(), min_size=10, max_size=10))
def test_generated_shapes(cases: list[OpCase]) -> None:
    named = [replace(case, name=f"case{k}") for k, case in enumerate(cases)]
    made = Bench(named, HERE)
    for case in named:
        made.check(case.name, near(case))


def test_a_transposed_layer_has_the_same_bits() -> None:
    """The sums of a net whose rows and columns have changed places."""
    case = inexact(conv("upright", (7, 10, 32), 20, Window((3, 3), pads=(1, 2, 1, 0))))
    x, w, b = case.inputs
    turned = Conv(by_columns((3, 3), pads=(2, 1, 0, 1)))
    other = OpCase("turned", turned, (x.swapaxes(0, 1).copy(), w.swapaxes(1, 2).copy(), b), LAYER)
    made = Bench([case, other], HERE, sanitize=False)
    upright, lying = (made._run_rows(each, "whole", each.want.shape[0]) for each in (case, other))
    assert (upright == lying.swapaxes(0, 1)).all()


def test_what_is_not_in_a_window_does_not_reach_its_output() -> None:
    """Infinities and what is not a number are in tiles of outputs that do not see them."""
    case = inexact(conv("spread", (7, 9, 16), 8, SAME))
    x = case.inputs[0].copy()
    x[3, 4, 5], x[0, 0, 0], x[6, 8, 3] = np.nan, np.inf, 3e38
    case = replace(case, inputs=(x, *case.inputs[1:]))
    made = Bench([case], HERE, sanitize=False)
    got = made._run_rows(case, "whole", 7)
    seen = np.zeros((7, 9), bool)
    for row, col in ((3, 4), (0, 0), (6, 8)):
        seen[max(0, row - 1) : row + 2, max(0, col - 1) : col + 2] = True
    np.testing.assert_allclose(got[~seen], case.want[~seen], 0, 1e-4)
    assert np.isnan(got[2:5, 3:6]).all()


@pytest.mark.quick
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seeds())
def test_transformed_filters(rng: np.random.Generator) -> None:
    """A tile's outputs, from packed filters in float64, are those of its windows."""
    depth, filters = 16 * int(rng.integers(1, 4)), int(rng.integers(1, 40))
    w, x = real(rng, filters, 3, 3, depth), real(rng, 4, 4, depth)
    packed = transformed(w).astype(np.float64)  # [block][piece][position][channel][16]
    by_filter = packed.transpose(0, 4, 2, 1, 3).reshape(-1, 4, 4, depth)[:filters]
    values = np.einsum("ia,jb,abc->ijc", VALUES, VALUES, x.astype(np.float64))
    made = np.einsum("yi,xj,oijc,ijc->oyx", OUTPUTS, OUTPUTS, by_filter, values)
    windows = np.stack([[x[i : i + 3, j : j + 3] for j in range(2)] for i in range(2)]).astype(np.float64)
    np.testing.assert_allclose(made, np.einsum("oabc,ijabc->oij", w, windows), 1e-5, 1e-5)


@pytest.mark.quick
def test_which_layers() -> None:
    def asked(window: Window, rows: int, cols: int, depth: int = 16, groups: int = 1) -> bool:
        x, w, y = (
            Tensor(name, shape, ElementType.F32)
            for name, shape in (("x", (9, 9, depth)), ("w", (8, 3, 3, depth)), ("y", (rows, cols, 8)))
        )
        return in_tiles(Conv(window, groups), x, w, y)

    assert asked(SAME, 7, 7)
    assert asked(SAME, 4, 4)
    assert not asked(SAME, 3, 3), "most of its tiles are beyond the image"
    assert not asked(SAME, 1, 100)
    assert not asked(SAME, 8, 8, 24)
    assert not asked(SAME, 8, 8, 16, 16)
    for other in (Window((3, 3), (2, 2)), Window((3, 3), dilations=(2, 1)), Window((3, 1)), Window((5, 5))):
        assert not asked(other, 8, 8)


@pytest.mark.quick
def test_hops_are_made_by_plain_sums() -> None:
    """A hop's rows begin anywhere in a tile."""
    target = load_target("aarch64")
    assert "winograd" in target.kernels
    assert kernels_of_hops(target, None) == target
    hops = kernels_of_hops(target, Streaming.__new__(Streaming))
    assert hops.kernels == ("simd", "portable")
