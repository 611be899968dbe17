# SPDX-License-Identifier: Apache-2.0
"""Winograd's convolutions give the bits of the plain sum: shapes, both ways over the rows, worst numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmcc.kernels.arm_dsp.winograd import FILTER, POSITIONS, TEMPLATE, transformed
from mmcc.ops.conv import ConvInt8
from mmcc.ops.window import Window
from op_case import OpCase
from op_cases_int8_layers import CONSTANTS, conv, int8, pads, per_filter
from qemu_bench import QemuBench
from toolchains import ready

SAME = Window((3, 3), pads=pads(1, 1, 1, 1))
VALUES = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
OUTPUTS = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def shapes() -> list[OpCase]:
    """Channels of every loop; tiles, quads and filters that are left over; images beyond their padding."""
    sizes = [(1, 1), (1, 2), (2, 1), (3, 7), (4, 8), (5, 9), (2, 15), (7, 16), (3, 33)]
    cases = [
        conv(f"wino_{rows}x{cols}_{depth}_{filters}", (rows, cols, depth), filters, SAME)
        for (rows, cols), (depth, filters) in zip(sizes, [(4, 3), (8, 2), (16, 5), (12, 1)] * 3, strict=False)
    ]
    return [
        *cases,
        conv("wino_32", (4, 6, 32), 4, SAME),
        conv("wino_48", (3, 4, 48), 3, SAME),
        conv("wino_20", (5, 5, 20), 7, SAME),
        conv("wino_valid", (6, 11, 8), 6, Window((3, 3))),
        conv("wino_skewed", (4, 7, 16), 4, Window((3, 3), pads=pads(2, 0, 0, 2))),
        conv("wino_far", (2, 3, 4), 2, Window((3, 3), pads=pads(5, 4, 3, 6))),
        conv("wino_low", (5, 9, 8), 5, SAME, low=-20, high=90),
        conv("wino_weight_zero", (4, 5, 8), 4, SAME, w_zero=-128),
        conv("wino_fraction", (4, 6, 8), 5, SAME, bias_bits=1),
        conv("wino_fraction_2", (4, 6, 16), 5, SAME, bias_bits=2),
        *extremes(),
    ]


def extremes() -> list[OpCase]:
    """All weights and values at their ends, so that sums are as large as they can be."""
    cases: list[OpCase] = []
    for x, w in ((-128, -128), (127, -128), (127, 127), (-128, 127)):
        name = f"wino_extreme_{x}_{w}"
        rng = np.random.default_rng(abs(x + w))
        inputs = (np.full((4, 8, 64), x, np.int8), np.full((4, 3, 3, 64), w, np.int8))
        op = ConvInt8(SAME, -127 if x > 0 else 127, 5)
        cases.append(OpCase(name, op, (*inputs, *per_filter(rng, 4, "high")), CONSTANTS))
    return cases


@cache
def bench(target: str, *, backward: bool) -> QemuBench:
    return QemuBench(shapes(), ready(target), lent="most", backward=backward)


@pytest.mark.parametrize(
    ("target", "backward"),
    [("cortex-m4", False), ("cortex-m4", True), ("cortex-m7", False), ("cortex-m33", False)],
)
def test_every_shape(target: str, backward: bool) -> None:
    made = bench(target, backward=backward)
    made.check_all()
    used = {kernel.options["pairs"] for kernel in made.package.kernels if kernel.template == TEMPLATE}
    assert used == {2, 4, 8, "once"}
    by_winograd = sum(len(kernel.users) for kernel in made.package.kernels if kernel.template == TEMPLATE)
    ways = [way for case in made.cases.values() for way in made.ways(case)]
    apart = ways.count("strided") if backward else 0  # backward, pixels that lie apart go another way
    assert by_winograd == len(ways) - apart


@st.composite
def drawn(draw) -> OpCase:
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 20)), 4 * draw(st.integers(1, 9)))
    window = Window((3, 3), pads=pads(*(draw(st.integers(0, 3)) for _ in range(4))))
    lacking = [max(0, 3 - shape[a] - window.pads[a] - window.pads[a + 2]) for a in (0, 1)]
    window = Window((3, 3), pads=(*window.pads[:2], window.pads[2] + lacking[0], window.pads[3] + lacking[1]))
    zeros = draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127)))
    op = ConvInt8(
        window, *zeros, 1, draw(st.sampled_from((0, 0, 7))), draw(st.sampled_from((-128, zeros[1])))
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    filters = draw(st.integers(1, 9))
    w = int8(rng, filters, 3, 3, shape[2])
    return OpCase("case", op, (int8(rng, *shape), w, *per_filter(rng, filters, "high")), CONSTANTS)


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(drawn(), min_size=14, max_size=14), st.booleans())
def test_generated_shapes(cases: list[OpCase], backward: bool) -> None:
    named = [OpCase(f"case{k}", case.op, case.inputs, case.constant) for k, case in enumerate(cases)]
    QemuBench(named, ready("cortex-m4"), lent="most", backward=backward).check_all()


def test_it_takes_fewer_instructions() -> None:
    """Of ResNet-8's layers: fewer than four pixels together, all transforms included."""
    for shape in ((32, 32, 16), (16, 16, 32), (8, 8, 64)):
        case = conv(f"layer_{shape[2]}", shape, shape[2], SAME)
        w = np.clip(np.round(np.random.default_rng(3).normal(0, 30, case.inputs[1].shape)), -127, 127)
        case = OpCase(
            case.name, case.op, (case.inputs[0], w.astype(np.int8), *case.inputs[2:]), case.constant
        )
        counts: list[int] = []
        for lent in ("most", "least"):
            made = QemuBench([case], ready("cortex-m4"), lent=lent)
            made.run()
            counts.append(made.instructions(case.name))
        assert counts[0] < 0.62 * counts[1], (shape, counts)


@pytest.mark.quick
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_transformed_filters_give_four_times_the_sums(seed: int) -> None:
    """Sums may wrap at 32 bits at each position: the result is right as long as it fits."""
    rng = np.random.default_rng(seed)
    depth, filters = 4 * int(rng.integers(1, 80)), int(rng.integers(1, 4))
    wide = rng.integers(-255, 256, (filters, 3, 3, depth))
    x = rng.integers(-128, 128, (4, 4, depth))
    packed = transformed(wide).astype(np.int64)  # [pair of filters, position, pair of channels, filter, 2]
    values = np.einsum("ia,jb,abc->ijc", VALUES, VALUES, x).reshape(POSITIONS, depth)
    assert abs(values).max() < 2**15
    pairs = values.reshape(POSITIONS, depth // 4, 2, 2).swapaxes(2, 3).reshape(POSITIONS, depth // 2, 2)
    sums = np.einsum("fpcgh,pch->fgp", packed, pairs).reshape(-1, 4, 4)[:filters]
    wrapped = sums.astype(np.int64).astype(np.uint32).astype(np.int64)
    got = np.einsum("ia,jb,fab->fij", OUTPUTS, OUTPUTS, wrapped).astype(np.uint32).view(np.int32)
    windows = np.stack([[x[i : i + 3, j : j + 3] for j in range(2)] for i in range(2)])
    want = 4 * np.einsum("fabc,ijabc->fij", wide, windows)
    assert (got == want).all()
    assert (FILTER @ np.full((3, 3), 255) @ FILTER.T).max() < 2**15
