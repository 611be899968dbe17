# SPDX-License-Identifier: Apache-2.0
"""Transformer blocks as ONNX Runtime's optimizer writes them, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import check, model_of
from mmcc.errors import CompileError
from mmcc.ops.movement import Expand, Transpose
from onnx import helper
from operator_models import array, ints, run

pytestmark = pytest.mark.quick

X = array(1, 6, 8)
MICROSOFT = {"domain": "com.microsoft"}


@pytest.mark.parametrize("attributes", [{}, {"scale": 0.25}, {"unidirectional": 1}])
def test_multi_head_attention(tmp_path, attributes):
    keys, values = array(1, 6, 8, seed=1), array(1, 6, 12, seed=2)
    run(tmp_path, "MultiHeadAttention", [X, keys, values], num_heads=2, **MICROSOFT, **attributes)


def test_multi_head_attention_with_a_bias_and_other_tokens(tmp_path):
    keys, values = array(1, 9, 8, seed=1), array(1, 9, 8, seed=2)
    run(tmp_path, "MultiHeadAttention", [X, keys, values], [array(24)], num_heads=4, **MICROSOFT)


@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}])
def test_attention(tmp_path, attributes):
    w, b = array(8, 24, seed=3), array(24, seed=4)
    run(tmp_path, "Attention", [X], [w, b], num_heads=2, **MICROSOFT, **attributes)


def test_attention_of_a_quantized_input(tmp_path):
    rng = np.random.default_rng(5)
    w, b = rng.integers(-128, 128, (8, 24)).astype(np.int8), array(24, seed=4)
    constants = {"w": w, "b": b, "xs": np.float32(0.02), "ws": np.float32(0.01)}
    constants |= {"z": np.uint8(120), "wz": np.int8(0)}
    constants = {name: np.asarray(value) for name, value in constants.items()}
    names = ["q", "w", "b", "xs", "ws", "", "z", "wz"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "z"], ["q"]),
        helper.make_node("QAttention", names, ["y"], num_heads=2, domain="com.microsoft"),
    ]
    check(model_of(nodes, {"x": X}, ["y"], constants, microsoft=True), {"x": X}, tmp_path, 1e-4)


@pytest.mark.parametrize("biased", [False, True])
def test_sums_that_are_normalized(tmp_path, biased):
    scale, more = array(8, seed=6), [array(8, seed=7)] + [array(8, seed=8)] * biased
    skip = array(1, 6, 8, seed=9)
    run(tmp_path, "SkipLayerNormalization", [X, skip], [scale, *more], epsilon=1e-5, **MICROSOFT)
    simplified = [scale, *more[biased:]] if biased else [scale]
    run(tmp_path, "SkipSimplifiedLayerNormalization", [X, skip], simplified, epsilon=1e-5, **MICROSOFT)


def test_the_sum_itself_is_an_output(tmp_path):
    node = helper.make_node(
        "SkipLayerNormalization", ["x", "s", "g"], ["n", "", "", "t"], domain="com.microsoft", epsilon=1e-5
    )
    nodes = [node, helper.make_node("Add", ["n", "t"], ["y"])]
    inputs = {"x": X, "s": array(1, 6, 8, seed=9)}
    check(model_of(nodes, inputs, ["y"], {"g": array(8)}, microsoft=True), inputs, tmp_path, 1e-4)


@pytest.mark.parametrize("segments", [False, True])
def test_embeddings(tmp_path, segments):
    ids = np.array([[3, 0, 6, 6, 1]], np.int32)
    inputs = {"ids": ids, **({"kinds": np.array([[0, 1, 1, 0, 1]], np.int32)} if segments else {})}
    constants = {"words": array(7, 8), "places": array(9, 8, seed=1), "g": array(8), "b": array(8, seed=2)}
    constants |= {"segments": array(2, 8, seed=3)} if segments else {}
    names = ["ids", "kinds" if segments else "", "words", "places", "segments" if segments else "", "g", "b"]
    node = helper.make_node("EmbedLayerNormalization", names, ["y", ""], domain="com.microsoft")
    check(model_of([node], inputs, ["y"], constants, microsoft=True), inputs, tmp_path, 1e-4)


def test_a_past_is_refused(tmp_path):
    past = array(1, 2, 3, 4)
    node = helper.make_node(
        "MultiHeadAttention",
        ["x", "k", "v", "", "", "", "p", "q"],
        ["y"],
        num_heads=2,
        domain="com.microsoft",
    )
    inputs = dict.fromkeys("xkv", X) | {"p": past, "q": past}
    with pytest.raises(CompileError, match="a past"):
        check(model_of([node], inputs, ["y"], microsoft=True), inputs, tmp_path)


@pytest.mark.parametrize("queries", [1, 3])
def test_keys_that_heads_share_are_not_repeated(tmp_path, queries):
    """As exporters repeat them: [heads, tokens, channels] is expanded, and joined with the heads."""
    q, k, v = array(1, 6, queries, 4), array(1, 2, 5, 4, seed=1), array(1, 2, 5, 4, seed=2)
    nodes = []
    for name in "kv":
        nodes += [
            helper.make_node("Unsqueeze", [name, "two"], [f"{name}1"]),
            helper.make_node("Expand", [f"{name}1", "all"], [f"{name}2"]),
            helper.make_node("Reshape", [f"{name}2", "joined"], [f"{name}3"]),
        ]
    nodes += [
        helper.make_node("Transpose", ["k3"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"]),
        helper.make_node("MatMul", ["weights", "v3"], ["y"]),
    ]
    shapes = {"two": ints(2), "all": ints(1, 2, 3, 5, 4), "joined": ints(1, 6, 5, 4)}
    graph = check(
        model_of(nodes, {"q": q, "k": k, "v": v}, ["y"], shapes), {"q": q, "k": k, "v": v}, tmp_path
    )
    read = {name for node in graph.nodes for name in node.inputs}
    assert not any(isinstance(node.op, Expand | Transpose) and node.output in read for node in graph.nodes)
