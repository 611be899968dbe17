# SPDX-License-Identifier: Apache-2.0
"""Normalizations as exporters spell them out become one node with the same values."""

from __future__ import annotations

import numpy as np
import pytest
from ir_text import read
from mmcc.ir.interpret import evaluate_tensors
from mmcc.passes.fuse_norm import fuse_norm

pytestmark = pytest.mark.quick

HEAD = """
    input %x: f32[5,12]
    constant %e: f32[] = [0.01]
    constant %w: f32[12] = random 1
    constant %b: f32[12] = random 2
"""
LAYER = """
    %m = Reduce("mean", [1])(%x)
    %d = Binary("sub")(%x, %m)
    %q = Binary("mul")(%d, %d)
    %v = Reduce("mean", [1])(%q)
    %s = Binary("add")(%v, %e)
    %r = Unary("sqrt")(%s)
    %n = Binary("div")(%d, %r)
"""
RMS = """
    %q = Binary("mul")(%x, %x)
    %v = Reduce("mean", [1])(%q)
    %s = Binary("add")(%e, %v)
    %r = Unary("sqrt")(%s)
    %i = Unary("reciprocal")(%r)
    %n = Binary("mul")(%i, %x)
"""
AFFINE = """
    %g = Binary("mul")(%w, %n)
    %y = Binary("add")(%g, %b)
    output %y
"""
CASES = {
    "layer": (HEAD + LAYER + AFFINE, "LayerNorm", 3),
    "layer without parameters": (HEAD + LAYER + "output %n\n", "LayerNorm", 2),
    "rms": (HEAD + RMS + '%y = Binary("mul")(%n, %w)\noutput %y\n', "LayerNorm", 2),
    "rms with a bias": (HEAD + RMS + AFFINE, "LayerNorm", 3),
}


@pytest.mark.parametrize("name", CASES)
def test_one_node_with_the_same_values(name: str) -> None:
    text, kind, operands = CASES[name]
    graph = read(text)
    done = fuse_norm(graph)
    assert [(type(node.op).__name__, len(node.inputs)) for node in done.nodes] == [(kind, operands)]
    x = np.random.default_rng(3).normal(2, 3, (5, 12)).astype(np.float32)
    end = graph.outputs[0].tensor
    want, found = (evaluate_tensors(g, {"x": x})[end] for g in (graph, done))
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mean", [1])(%q)', '"mean", [0])(%q)'),  # over other elements than they are divided
        ('%q = Binary("mul")(%d, %d)', '%q = Binary("mul")(%d, %x)'),
        ('%r = Unary("sqrt")', '%r = Unary("exp")'),
    ],
)
def test_what_only_looks_like_one_stays(old: str, new: str) -> None:
    assert old in LAYER
    done = fuse_norm(read(HEAD + LAYER.replace(old, new) + "output %n\n"))
    assert "LayerNorm" not in [type(node.op).__name__ for node in done.nodes]


def test_what_another_node_reads_stays_beside_it() -> None:
    done = fuse_norm(read(HEAD + LAYER + AFFINE + "output %n\n"))
    kinds = [type(node.op).__name__ for node in done.nodes]
    assert kinds == ["LayerNorm", "Binary", "Binary"]
