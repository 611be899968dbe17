# SPDX-License-Identifier: Apache-2.0
"""Samples of a batch are reduced before they are put together: the same bits in fewer bytes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from graphs import Builder, run
from ir_text import nodes_of, read
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.regions import SRAM
from mmcc.ir.verify import check_graph
from mmcc.ops.conv import Conv
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.movement import Concat, Reshape
from mmcc.ops.reduce import Reduce
from mmcc.ops.window import Window
from mmcc.passes import PASSES, Pass
from mmcc.passes.sink_concat import sink_concat
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest

pytestmark = pytest.mark.quick


def test_each_sample_is_reduced_before() -> None:
    graph = read("""
        input %a: f32[1,4,5,2]
        input %b: f32[1,4,5,2]
        %c = Concat(0)(%a, %b)
        %r = Unary("sqrt", [])(%c)
        %y = Reduce("max", [1, 2])(%r)
        output %y
    """)
    after = sink_concat(graph)
    assert check_graph(after) == []
    assert nodes_of(after) == [
        "%a_sample = Reshape(shape=[4, 5, 2])(%a)",
        '%r_part = Unary(function="sqrt")(%a_sample)',
        '%y_part = Reduce(function="max", axes=[0, 1])(%r_part)',
        "%y_one = Reshape(shape=[1, 1, 1, 2])(%y_part)",
        "%b_sample = Reshape(shape=[4, 5, 2])(%b)",
        '%r_part_2 = Unary(function="sqrt")(%b_sample)',
        '%y_part_2 = Reduce(function="max", axes=[0, 1])(%r_part_2)',
        "%y_one_2 = Reshape(shape=[1, 1, 1, 2])(%y_part_2)",
        "%y = Concat(axis=0)(%y_one, %y_one_2)",
    ]


@pytest.mark.parametrize(
    "middle",
    [
        '%y = Reduce("max", [0, 1])(%c)',  # of all samples together
        '%r = Unary("sqrt", [])(%c)\n%y = Reduce("max", [1])(%r)\noutput %c',  # whole in any case
        '%r = Unary("sqrt", [])(%c)\n%y = Reduce("max", [1])(%r)\noutput %r',
        'constant %w: f32[2,3,2] = random 1\n%r = Binary("add")(%c, %w)\n%y = Reduce("max", [1])(%r)',
        '%r, %i: i64[2,3,1] = TopK(1)(%c)\n%y = Reduce("max", [1])(%r)',  # one of two results
        '%r = Binary("mul")(%c, %c)\n%y = Reduce("max", [1])(%r)',
    ],
)
def test_what_is_not_one_function_of_each_sample_stays(middle: str) -> None:
    body = f"input %a: f32[1,3,2]\ninput %b: f32[1,3,2]\n%c = Concat(0)(%a, %b)\n{middle}\noutput %y"
    graph = read(body)
    assert nodes_of(sink_concat(graph)) == nodes_of(graph)


def batch(samples: int, seed: int, *, quantized: bool) -> Graph:
    """Layers of each image, as the importer makes them of a batch, and a reduction of all."""
    rng, b = np.random.default_rng(seed), Builder()
    function = rng.choice(["mean", "sum", "max", "min"])
    w, bias = b.const(rng.normal(0, 0.5, (6, 3, 3, 2))), b.const(rng.normal(0, 1, 6))
    parts: list[str] = []
    for k in range(samples):
        x = b.input(f"x{k}", 8, 6, 2)
        x = b.quantize(x, 0.03, 3) if quantized else x
        y = b.op(Conv(Window((3, 3), pads=(1, 1, 1, 1))), x, w, bias)
        y = b.quantize(y, 0.05, -4) if quantized else y
        parts.append(b.op(Reshape((1, 8, 6, 6)), y))
    y = b.op(Concat(0), *parts)
    for _ in range(int(rng.integers(3))):
        y = b.op(Unary("clamp", (0.0, 3.0)), y) if rng.integers(2) else y
        y = b.op(Binary("mul"), y, b.const(rng.normal(0, 1, 6))) if rng.integers(2) else y
    y = b.op(Reduce(str(function), ((1, 2), (2,), (1, 2, 3))[rng.integers(3)]), y)
    return b.graph(b.quantize(y, 0.05, 5) if quantized else y)


def peak(graph: Graph, passes: Iterable[Pass]) -> int:
    """Bytes of arena after some passes, by a plan that the checker finds right."""
    for step in passes:
        graph = step(graph)
        assert check_graph(graph) == [], step
    made = best_plan(graph, PlanRequest())
    assert check_plan(graph, made) == []
    return made.peak(SRAM)


@pytest.mark.parametrize("quantized", [False, True])
def test_bits_are_the_same(quantized: bool) -> None:
    for seed in range(12):
        graph = batch(1 + seed % 4, seed, quantized=quantized)
        after, rng = sink_concat(graph), np.random.default_rng(seed)
        inputs = [rng.normal(0, 2, port.onnx_shape).astype(np.float32) for port in graph.inputs]
        for one, other in zip(run(graph, *inputs), run(after, *inputs), strict=True):
            assert one.tobytes() == other.tobytes(), seed


@pytest.mark.parametrize("quantized", [False, True])
def test_a_batch_takes_fewer_bytes(quantized: bool) -> None:
    others = [step for step in PASSES if step is not sink_concat]
    for seed in range(4):
        graph = batch(5, seed, quantized=quantized)
        assert 1.1 * peak(graph, PASSES) < peak(graph, others), seed
