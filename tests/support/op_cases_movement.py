# SPDX-License-Identifier: Apache-2.0
"""Cases of operators that resize, or only move elements."""

from __future__ import annotations

from itertools import product

import numpy as np
from mmcc.ir.element_type import ElementType
from mmcc.ir.types import Shape
from mmcc.ops.movement import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.resize import ResizeLinear, ResizeNearest
from mmcc.ops.sequence_start import CountHops, MaskBeforeStart, RepeatFirstRow
from mmcc.ops.shift import Shift
from op_case import OpCase, rng_of
from op_case_values import LAYER, exact, integers, real, values


def resizes() -> list[OpCase]:
    rng = rng_of("resize")
    rows, cols = (-1, 0, 0, 1, 1, 2, 3), (-2, -1, 0, 1, 2, 3, 3, 4, 4, 5, 6)
    cases: list[OpCase] = []
    for taps in (2, 4):
        weights = (exact(rng, len(rows), taps), exact(rng, len(cols), taps))
        op = ResizeLinear(rows, cols, taps)
        cases.append(OpCase(f"resize_{taps}_taps", op, (exact(rng, 4, 6, 5), *weights), LAYER))
        one = ResizeLinear((-1, 0), (0, 0, -1), taps)
        weights = (exact(rng, 2, taps), exact(rng, 3, taps))
        cases.append(OpCase(f"resize_pixel_{taps}_taps", one, (exact(rng, 1, 1, 3), *weights), LAYER))
    for dtype in (ElementType.F32, ElementType.I8, ElementType.I64):
        op = ResizeNearest((0, 0, 1, 2, 2, 3, 3), (0, 1, 1, 2, 5, 5))
        cases.append(OpCase(f"nearest_{dtype.name}", op, (values(rng, dtype, 4, 6, 5),)))
    cases.append(OpCase("nearest_down", ResizeNearest((1, 3), (0, 3, 5)), (real(rng, 4, 6, 1),)))
    antialiased, weights = ResizeLinear((-3, -1), (-2, 0, 1), 8), (exact(rng, 2, 8), exact(rng, 3, 8))
    cases.append(OpCase("resize_8_taps", antialiased, (exact(rng, 4, 6, 5), *weights), LAYER))
    return cases


def movements() -> list[OpCase]:
    rng = rng_of("movement")
    cases: list[OpCase] = []

    def add(
        name: str, op, shape: Shape, dtype: ElementType = ElementType.F32, constant: bool = False
    ) -> None:
        cases.append(OpCase(name, op, (values(rng, dtype, *shape),), (constant,)))

    perms = ((2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (1, 0), (0,), (0, 3, 1, 2), (3, 1, 0, 2))
    for perm in (*perms, (3, 1, 0, 5, 4, 2), (0, 1, 5, 3, 4, 2), (1, 0, 4, 3, 2)):
        name = f"transpose_{''.join(map(str, perm))}"
        add(name, Transpose(perm), (4, 3, 5, 2, 3, 2)[: len(perm)])
    for dtype in (ElementType.I8, ElementType.I16, ElementType.I64):
        add(f"transpose_{dtype.name}", Transpose((2, 0, 1)), (5, 7, 3), dtype)
    add("slice_image", Slice((1, 2, 1), (1, 1, 1), (3, 4, 2)), (5, 7, 4))
    add("slice_back", Slice((4, 6, 2), (-2, -2, -1), (2, 3, 3)), (5, 7, 3))
    add("slice_steps", Slice((0, 1, 0), (2, 3, 1), (3, 2, 3)), (5, 7, 3), ElementType.I8)
    add("slice_vector", Slice((1,), (3,), (2,)), (9,), ElementType.I8)
    add("slice_lines", Slice((4, 1), (-1, 1), (5, 2)), (5, 3))
    add("slice_inside", Slice((0, 1, 1, 2), (1, 1, 2, -1), (2, 2, 2, 3)), (2, 4, 5, 3))
    add("expand_image", Expand((4, 7, 3)), (1, 7, 1))
    add("expand_columns", Expand((4, 7, 3)), (4, 1, 3), ElementType.U8)
    add("expand_lines", Expand((4, 7)), (1, 7))
    add("expand_vector", Expand((7,)), (1,))
    add("expand_inside", Expand((4, 5, 2, 3)), (4, 1, 2, 1))
    add("expand_constant", Expand((4, 5, 3)), (1, 5, 3), constant=True)
    for shape, target in (
        ((4, 5, 3), (3, 20)),
        ((4, 5, 3), (2, 3, 2, 5)),
        ((4, 5, 3), (60,)),
        ((60,), (4, 5, 3)),
        ((6, 4), (8, 3)),
        ((1,), ()),
        ((), (1, 1, 1)),
        ((4, 5, 3), (4, 5, 3)),
    ):
        add(
            f"copy_{len(cases)}",
            Reshape(target),
            shape,
            ElementType.I16 if len(shape) == 2 else ElementType.F32,
        )
    return cases


def look_ups() -> list[OpCase]:
    rng = rng_of("look_ups")
    cases: list[OpCase] = []
    pads = (((4, 5, 3), (1, 2, 0), (0, 1, 2)), ((4, 5), (1, 2), (0, 1)), ((5,), (2,), (1,)))
    for mode, (k, (shape, before, after)) in product(
        ("constant", "reflect", "edge", "wrap"), enumerate(pads)
    ):
        op = Pad(before, after, mode, 1.5)
        cases.append(OpCase(f"pad_{mode}{k}", op, (real(rng, *shape),)))
    for mode in ("constant", "wrap"):
        op = Pad((0, 1, 0, 1), (2, 0, 2, 1), mode, -3.0)
        cases.append(OpCase(f"pad_{mode}_inside", op, (integers(rng, ElementType.I8, 2, 3, 4, 5),)))
    cases.append(OpCase("pad_rows", Pad((2, 0, 0), (1, 0, 0)), (integers(rng, ElementType.I64, 3, 4, 2),)))
    cases.append(OpCase("pad_nothing", Pad((0, 0, 0), (0, 0, 0)), (real(rng, 3, 4, 2),)))
    gathers = (
        ((4, 5, 3), 0),
        ((4, 5, 3), 1),
        ((4, 5, 3), 2),
        ((4,), 0),
        ((4, 5), 0),
        ((4, 5), 1),
        ((2, 3, 4, 5), 2),
    )
    for k, (shape, axis) in enumerate((*gathers, ((2, 3, 4, 5), 3))):
        indices = tuple(rng.integers(0, shape[axis], 6).tolist())
        dtype = (ElementType.F32, ElementType.I8, ElementType.BOOL)[k % 3]
        cases.append(OpCase(f"gather{k}", Gather(axis, indices), (values(rng, dtype, *shape),)))
    table = OpCase("gather_constant", Gather(0, (3, 1, 1)), (real(rng, 4, 5),), (True,))
    return [*cases, table]


def shifts() -> list[OpCase]:
    rng = rng_of("shift")
    every = (
        ((6, 5, 3), 1, ElementType.F32),
        ((6, 1, 4), 4, ElementType.I8),
        ((2, 3), 1, ElementType.I16),
        ((5, 2, 3, 2), 2, ElementType.I8),
    )
    return [
        OpCase(f"shift{k}", Shift(), (values(rng, dtype, *shape), values(rng, dtype, new, *shape[1:])))
        for k, (shape, new, dtype) in enumerate(every)
    ]


def sequence_starts() -> list[OpCase]:
    """No row, some and all rows come before row 0; the last count is as large as one can be."""
    rng = rng_of("sequence_start")
    cases = [
        OpCase(f"count_hops{k}", CountHops(most), (np.array([count], np.int32),))
        for k, (most, count) in enumerate(((5, 0), (5, 4), (5, 5), (2**31 - 1, 2**31 - 1)))
    ]
    shapes = ((4, 5, 3), (3, 7), (2, 3, 2, 5))
    types = (
        (ElementType.F32, -np.inf),
        (ElementType.I8, -77),
        (ElementType.I16, 0),
        (ElementType.F32, -0.0),
    )
    for k, (shape, (dtype, value)) in enumerate(product(shapes, types)):
        hop = (1, shape[0])[k % 2]
        op, hops = MaskBeforeStart(hop, 3 * hop + 2, value), np.array([k % 5], np.int32)
        cases.append(OpCase(f"mask_before_start{k}", op, (values(rng, dtype, *shape), hops)))
        op = RepeatFirstRow(1, 4)
        cases.append(OpCase(f"repeat_first_row{k}", op, (values(rng, dtype, *shape), hops)))
    return cases


def concatenations() -> list[OpCase]:
    rng = rng_of("concat")

    def case(
        name: str, axis: int, *shapes: Shape, dtype: ElementType = ElementType.F32, constant=()
    ) -> OpCase:
        return OpCase(name, Concat(axis), tuple(values(rng, dtype, *s) for s in shapes), constant)

    return [
        case("concat_rows", 0, (2, 5, 3), (4, 5, 3)),
        case("concat_columns", 1, (2, 5, 3), (2, 1, 3), (2, 4, 3)),
        case("concat_channels", 2, (2, 5, 3), (2, 5, 1), (2, 5, 4), dtype=ElementType.I8),
        case("concat_many_channels", 2, *((3, 9, k) for k in (2, 1, 3, 1, 2)), dtype=ElementType.I8),
        case("concat_many_rows", 0, *((k, 9, 2) for k in (2, 1, 3, 1)), dtype=ElementType.I8),
        case("concat_many_columns", 1, *((2, k, 3) for k in (2, 1, 3, 1, 4)), dtype=ElementType.I8),
        case("concat_constant", 1, (2, 5, 3), (2, 1, 3), (2, 4, 3), constant=(False, True)),
        case("concat_constant_channels", 2, (2, 5, 3), (2, 5, 1), constant=(True,)),
        case("concat_inside", 2, (2, 5, 3, 4), (2, 5, 1, 4)),
        case("concat_last", 3, (2, 5, 3, 4), (2, 5, 3, 1), dtype=ElementType.I64),
        case("concat_vectors", 0, (2,), (3,)),
        case("concat_lines", 0, (2, 3), (4, 3), dtype=ElementType.U16),
        case("concat_along_lines", 1, (2, 3), (2, 5), (2, 1), (2, 2), (2, 4)),
        case("concat_one", 1, (2, 3, 4)),
    ]
