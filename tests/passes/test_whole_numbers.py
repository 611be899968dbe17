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
    input %x: i8[3,4]
    input %zero: {dtype}[1]
    constant %w: i8[5,4] = random 1
    constant %bias: i32[5] = all {bias}
    constant %factor: f32[5] = all {factor}
    constant %offset: f32[5] = all {offset}
    constant %column: f32[5] = all {column}
    %products = DenseInt8ToFloat(x_zero=0)(%x, %w, %bias, %factor, %offset)
    %wide = Cast(f32)(%zero)
    %off = Binary("mul")(%wide, %column)
    %sums = Binary("{function}")(%products, %off)
    %whole = Cast(i32)(%sums)
    %y = Cast(f32)(%whole)
    output %y
"""


def sums(
    dtype: str = "u8",
    factor: float = 1,
    offset: float = 0,
    column: float = -3,
    function: str = "sub",
    bias: int = 0,
) -> Graph:
    values = {"dtype": dtype, "factor": factor, "offset": offset, "column": column, "bias": bias}
    return read(SUMS.format(function=function, **values))


def casts(graph: Graph) -> int:
    return sum(node.op == Cast(ElementType.I32) for node in graph.nodes)


def given(graph: Graph) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "x": random.integers(-128, 128, (3, 4)).astype(np.int8),
        "zero": random.integers(0, 200, 1).astype(graph.tensors["zero"].dtype.numpy),
    }


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
    [
        {"factor": 0.5},
        {"offset": 0.25},
        {"column": 0.5},
        {"dtype": "i32"},
        {"dtype": "f16"},
        {"column": 2.0**23},
        {"bias": 2**30},
        {"function": "mul"},
    ],
    ids=str,
)
def test_what_may_change_stays(what: dict[str, Any]) -> None:
    """Numbers that are not whole, or not known to be, more than int32 has, or a zero that may have a sign."""
    assert casts(keep_whole(sums(**what))) == 1
