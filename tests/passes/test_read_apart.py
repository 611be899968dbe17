# SPDX-License-Identifier: Apache-2.0
"""Queries apart from keys and values: the same values in less memory, and only where readers differ so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ir_text import read
from mmcc.checker.plan import check_plan
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions, silent
from mmcc.driver.rows import best_rows
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import evaluate
from mmcc.ir.regions import SRAM
from mmcc.ops.dense import Dense
from mmcc.ops.layer_norm import LayerNorm
from mmcc.passes.read_apart import AGAIN, ONCE, read_apart
from mmcc.planner.request import PlanRequest
from mmcc.verification.verify import VerifyOptions, verify_package
from shared_models import SHARED, needs_shared

TOKENS, HEADS, WIDTH = 20, 2, 8
TENSOR = 4 * TOKENS * WIDTH
SPLIT = f"""
    %q = Slice([0, 0], [1, 1], [{TOKENS}, {WIDTH}])(%qkv)
    %k = Slice([0, {WIDTH}], [1, 1], [{TOKENS}, {WIDTH}])(%qkv)
    %v = Slice([0, {2 * WIDTH}], [1, 1], [{TOKENS}, {WIDTH}])(%qkv)
    %queries = Reshape([{TOKENS}, {HEADS}, {WIDTH // HEADS}])(%q)
    %keys = Reshape([{TOKENS}, {HEADS}, {WIDTH // HEADS}])(%k)
    %values = Reshape([{TOKENS}, {HEADS}, {WIDTH // HEADS}])(%v)
"""
BY_HEADS = f"""
    %all = Reshape([{TOKENS}, 3, {HEADS}, {WIDTH // HEADS}])(%qkv)
    %q = Slice([0, 0, 0, 0], [1, 1, 1, 1], [{TOKENS}, 1, {HEADS}, {WIDTH // HEADS}])(%all)
    %k = Slice([0, 1, 0, 0], [1, 1, 1, 1], [{TOKENS}, 1, {HEADS}, {WIDTH // HEADS}])(%all)
    %v = Slice([0, 2, 0, 0], [1, 1, 1, 1], [{TOKENS}, 1, {HEADS}, {WIDTH // HEADS}])(%all)
    %queries = Reshape([{TOKENS}, {HEADS}, {WIDTH // HEADS}])(%q)
    %keys = Reshape([{TOKENS}, {HEADS}, {WIDTH // HEADS}])(%k)
    %values = Reshape([{TOKENS}, {HEADS}, {WIDTH // HEADS}])(%v)
"""
BLOCK = f"""
    input %x: f32[{TOKENS},{WIDTH}]
    constant %scale: f32[{WIDTH}] = random 5
    constant %w: f32[{3 * WIDTH},{WIDTH}] = random 1
    constant %b: f32[{3 * WIDTH}] = random 2
    constant %wo: f32[{WIDTH},{WIDTH}] = random 3
    constant %bo: f32[{WIDTH}] = random 4
    %norm = LayerNorm(0.001)(%x, %scale)
    %qkv = Dense()(%norm, %w, %b)
    {{split}}
    %scores = MatMul(Operands(transposed=True, heads=True))(%queries, %keys)
    %p = Softmax()(%scores)
    %heads = MatMul(Operands(heads=True))(%p, %values)
    %o = Reshape([{TOKENS}, {WIDTH}])(%heads)
    %projected = Dense()(%o, %wo, %bo)
    %y = Binary("add")(%x, %projected)
    output %y
"""


def block(split: str, **changes: str) -> Graph:
    text = BLOCK.format(split=split)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return read(text)


def count(graph: Graph, op: type[object]) -> int:
    return sum(isinstance(node.op, op) for node in graph.nodes)


@pytest.mark.parametrize("split", [SPLIT, BY_HEADS], ids=["slices", "an axis of three"])
@pytest.mark.parametrize("apart", [ONCE, AGAIN])
def test_the_same_is_computed(split: str, apart: str) -> None:
    before = block(split)
    after = read_apart(before, apart)
    assert after is not None
    assert count(after, Dense) == 4
    assert count(after, LayerNorm) == (2 if apart == AGAIN else 1)
    x = {"x": np.random.default_rng(0).standard_normal((TOKENS, WIDTH)).astype(np.float32)}
    (want,), (made,) = (evaluate(graph, x).values() for graph in (before, after))
    np.testing.assert_allclose(made, want, rtol=1e-5, atol=1e-6)  # numpy adds up products as it likes


@pytest.mark.parametrize("split", [SPLIT, BY_HEADS], ids=["slices", "an axis of three"])
def test_queries_need_no_memory(split: str) -> None:
    """A norm that is computed twice saves the tensor that waited for its queries."""
    row, scores = 4 * WIDTH, 4 * HEADS * TOKENS
    request = PlanRequest(fuse=True)
    once, again = (
        best_rows(block(split), replace(request, recompute=recompute), lambda _: request)
        for recompute in (1.0, 2.0)
    )
    assert once.apart == ""  # x, the norm or queries, keys and values
    assert once.plan.peak(SRAM) >= 4 * TENSOR
    assert again.apart == AGAIN
    assert again.plan.peak(SRAM) <= 3 * TENSOR + 2 * scores + 4 * row
    assert check_plan(again.graph, again.plan) == []


def test_without_a_norm_nothing_is_computed_twice() -> None:
    """What queries are made of is there anyway: a layer in parts does what a second norm does elsewhere."""
    norm = "%norm = LayerNorm(0.001)(%x, %scale)"
    graph = block(SPLIT, **{"Dense()(%norm, %w, %b)": "Dense()(%x, %w, %b)", norm: ""})
    found = best_rows(graph, PlanRequest(fuse=True), lambda _: PlanRequest(fuse=True))
    assert found.apart == ONCE
    assert found.plan.peak(SRAM) <= 3 * TENSOR + 8 * HEADS * TOKENS + 4 * 4 * WIDTH


def test_a_layer_that_is_read_whole_stays() -> None:
    assert read_apart(block(SPLIT, **{"output %y": "output %y\n    output %qkv"}), ONCE) is None


def test_parts_that_are_read_alike_stay() -> None:
    """A gate needs a row of both."""
    gate = read(f"""
        input %x: f32[{TOKENS},{WIDTH}]
        constant %w: f32[{2 * WIDTH},{WIDTH}] = random 1
        constant %b: f32[{2 * WIDTH}] = random 2
        %both = Dense()(%x, %w, %b)
        %one = Slice([0, 0], [1, 1], [{TOKENS}, {WIDTH}])(%both)
        %other = Slice([0, {WIDTH}], [1, 1], [{TOKENS}, {WIDTH}])(%both)
        %y = Binary("mul")(%one, %other)
        output %y
    """)
    assert read_apart(gate, AGAIN) is None


@needs_shared
def test_an_int8_vit_in_little_memory(tmp_path: Path) -> None:
    """The C of a package in parts is compared with ONNX Runtime node by node."""
    model = SHARED / "sequence_models" / "vit_tiny_int8_qdq" / "model.onnx"
    options = CompileOptions(name="vit", least_ram=True, recompute=2.0)
    made = compile_model(model, tmp_path / "out", options)
    assert made.plan.peak(SRAM) <= 13_500
    assert made.report["apart"] == AGAIN
    assert verify_package(tmp_path / "out", VerifyOptions(per_node=True), silent)["ok"]
