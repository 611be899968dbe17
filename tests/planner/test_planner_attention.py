# SPDX-License-Identifier: Apache-2.0
"""Attention is computed query by query: nothing in the planner knows it, only the loops of its products."""

from __future__ import annotations

import pytest
from ir_text import read
from mmcc.checker.plan import check_plan
from mmcc.ir.regions import SRAM
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest

TOKENS, HEADS, WIDTH = 20, 2, 8
BLOCK = f"""
    input %x: f32[{TOKENS},{WIDTH}]
    constant %w: f32[{3 * WIDTH},{WIDTH}] = random 1
    constant %b: f32[{3 * WIDTH}] = random 2
    constant %wo: f32[{WIDTH},{WIDTH}] = random 3
    constant %bo: f32[{WIDTH}] = random 4
    %qkv = Dense()(%x, %w, %b)
    %q = Slice([0, 0], [1, 1], [{TOKENS}, {WIDTH}])(%qkv)
    %k = Slice([0, {WIDTH}], [1, 1], [{TOKENS}, {WIDTH}])(%qkv)
    %v = Slice([0, {2 * WIDTH}], [1, 1], [{TOKENS}, {WIDTH}])(%qkv)
    %queries = Reshape([{TOKENS}, {HEADS}, {WIDTH // HEADS}])(%q)
    %keys = Reshape([{TOKENS}, {HEADS}, {WIDTH // HEADS}])(%k)
    %values = Reshape([{TOKENS}, {HEADS}, {WIDTH // HEADS}])(%v)
    %scores = MatMul(Operands(transposed=True, heads=True))(%queries, %keys)
    %p = Softmax()(%scores)
    %heads = MatMul(Operands(heads=True))(%p, %values)
    %o = Reshape([{TOKENS}, {WIDTH}])(%heads)
    %projected = Dense()(%o, %wo, %bo)
    %y = Binary("add")(%x, %projected)
    output %y
"""


@pytest.mark.quick
def test_only_rows_of_scores_exist() -> None:
    graph = read(BLOCK)
    made = best_plan(graph, PlanRequest(fuse=True))
    assert check_plan(graph, made) == []
    row, scores = 4 * WIDTH, 4 * HEADS * TOKENS
    tokens = 4 * TOKENS * WIDTH * (1 + 3)  # x, and all queries, keys and values
    assert made.peak(SRAM) <= tokens + 2 * scores + 2 * row
    kinds = [sorted(type(graph.nodes[k].op).__name__ for k in group.nodes) for group in made.groups]
    assert any({"MatMul", "Softmax", "Dense", "Binary"} <= set(kind) for kind in kinds)
