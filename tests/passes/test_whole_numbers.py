# SPDX-License-Identifier: Apache-2.0
"""Sums of whole numbers in float are not converted to integers and back, where that changes no value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ir_text import read
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import evaluate
from mmcc.ops.elementwise import Cast
from mmcc.passes.whole_numbers import keep_whole

SUMS = """
    input %x: {dtype}[3,4]
    constant %zero: f32[1] = [{zero}]
    constant %w: i8[5,4] = random 1
    constant %scale: f32[5,1] = all {scale}
    constant %shift: f32[5,1] = all {shift}
    %f = Cast(f32)(%x)
    %centred = Binary("sub")(%f, %zero)
    %sums = DenseBlocked(bits=8, block=4, offsets=True)(%centred, %w, %scale, %shift)
    %whole = Cast(i32)(%sums)
    %y = Cast(f32)(%whole)
    output %y
"""


def sums(dtype: str = "u8", zero: float = 7, scale: float = 1, shift: float = -3) -> Graph:
    return read(SUMS.format(dtype=dtype, zero=zero, scale=scale, shift=shift))


def casts(graph: Graph) -> int:
    return sum(node.op == Cast(ElementType.I32) for node in graph.nodes)


def given(graph: Graph) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {"x": random.integers(0, 200, (3, 4)).astype(graph.tensors["x"].dtype.numpy)}


@pytest.mark.parametrize("dtype", ["u8", "i16"])
def test_whole_sums_stay_float(dtype: str) -> None:
    before = sums(dtype)
    after = keep_whole(before)
    assert casts(before) == 1
    assert casts(after) == 0
    values = given(before)
    (want,), (made,) = (evaluate(graph, values).values() for graph in (before, after))
    assert want.tobytes() == made.tobytes()


@pytest.mark.parametrize(
    "what",
    [{"scale": 0.5}, {"shift": 0.25}, {"zero": 0.5}, {"dtype": "i32"}, {"dtype": "f16"}, {"shift": 2.0**23}],
    ids=str,
)
def test_what_may_change_stays(what: dict[str, Any]) -> None:
    """Numbers that are not whole, or not known to be, and more than int32 has."""
    assert casts(keep_whole(sums(**what))) == 1
