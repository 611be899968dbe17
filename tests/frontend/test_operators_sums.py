# SPDX-License-Identifier: Apache-2.0
"""Reductions, products, normalizations and constants in ONNX models, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import check, kinds, model_of
from mmcc.frontend.registry import REGISTRY
from mmcc.ops.movement import Transpose
from onnx import helper
from operator_models import IMAGE, TABLE, array, ints, run

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "op",
    [
        *("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceL1", "ReduceL2"),
        *("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
    ],
)
def test_reductions(tmp_path, op):
    x = np.abs(array(1, 3, 4, 5)) + 0.1
    for axes in ([1], [2, 3], [-1], [0], None, [0, 1, 2, 3]):
        for keepdims in (0, 1):
            constants = [] if axes is None else [ints(*axes)]
            run(tmp_path, op, [x], constants, opset=18, keepdims=keepdims)
            given = {} if axes is None else {"axes": axes}
            run(tmp_path, op, [x], opset=11, keepdims=keepdims, **given)


def test_reductions_without_axes(tmp_path):
    run(tmp_path, "ReduceSum", [TABLE], [ints()], noop_with_empty_axes=1)
    run(tmp_path, "ReduceSum", [TABLE], [ints()])
    run(tmp_path, "ReduceSum", [TABLE.astype(np.int64)], [ints(0)])
    run(tmp_path, "ReduceMax", [TABLE.astype(np.int32)], axes=[1])


REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")


@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions_of_no_axes(tmp_path, op):
    """Norms and sums of squares or logarithms are still those of each element."""
    x = np.abs(TABLE) + 0.1 if "Log" in op else TABLE
    for axes in ([], [ints()], [ints(1)]):
        for keepdims in (0, 1):
            run(tmp_path, f"Reduce{op}", [x], axes, opset=18, noop_with_empty_axes=1, keepdims=keepdims)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_arg(tmp_path, op):
    x = array(1, 4, 5, 6, low=0, high=4).round()
    run(tmp_path, op, [x], axis=1, keepdims=2)  # only 1 keeps them
    for axis in range(-2, 4):
        for last in (0, 1):
            run(tmp_path, op, [x], axis=axis, select_last_index=last, keepdims=axis % 2)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4, 6), (6, 5)),
        ((1, 6), (6, 5)),
        ((1, 6), (6, 1)),
        ((2, 3, 4, 6), (6, 5)),
        ((4, 6), (6,)),
        ((6,), (6, 5)),
        ((6,), (6,)),
        ((3, 4, 6), (3, 6, 5)),
        ((2, 1, 4, 6), (3, 6, 5)),
        ((1, 4, 6), (1, 6, 5)),
        ((4, 6), (2, 3, 6, 5)),
        ((6,), (3, 6, 5)),
        ((3, 4, 6), (6,)),
        ((4, 1), (1, 5)),
        ((2, 3, 2, 4, 6), (2, 3, 2, 6, 5)),
        ((2, 3, 2, 4, 6), (3, 2, 6, 5)),
        ((2, 3, 2, 4, 6), (2, 1, 2, 6, 5)),
        ((2, 1, 2, 1, 4, 6), (3, 1, 2, 6, 5)),
    ],
)
@pytest.mark.parametrize("constant", [None, 0, 1])
def test_matmul(tmp_path, a, b, constant):
    both = {"a": array(*a), "b": array(*b, seed=1)}
    fixed = {} if constant is None else {"ab"[constant]: both.pop("ab"[constant])}
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    check(model_of([node], both, ["y"], fixed), both, tmp_path)


@pytest.mark.parametrize("perm", [(6, 4, 2, 0, 5, 3, 1), (1, 0, 3, 2, 5, 4, 6, 7), (7, 5, 3, 1, 6, 4, 2, 0)])
def test_wild_transpositions_are_made_in_steps(tmp_path, perm):
    x = array(*(2, 3, 2, 3, 2, 3, 2, 2)[: len(perm)])
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=perm),
        helper.make_node("Reshape", ["t", "n"], ["y"]),
    ]
    graph = check(model_of(nodes, {"x": x}, ["y"], {"n": ints(-1)}), {"x": x}, tmp_path)
    moves = [node.op for node in graph.nodes if isinstance(node.op, Transpose)]
    assert len(moves) > 1
    assert all(len(op.perm) <= 6 for op in moves)


@pytest.mark.parametrize("c", [None, (), (1,), (5,), (1, 5), (4, 1), (1, 1), (4, 5)])
@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}])
def test_gemm(tmp_path, c, attributes):
    constants = [array(6, 5, seed=1), None if c is None else array(*c, seed=2)]
    run(tmp_path, "Gemm", [array(4, 6)], constants, **attributes)


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
def test_gemm_transposed(tmp_path, a, b):
    x = array(6, 4) if a else array(4, 6)
    w = array(5, 6, seed=1) if b else array(6, 5, seed=1)
    run(tmp_path, "Gemm", [x], [w, array(5, seed=2)], transA=a, transB=b)
    run(tmp_path, "Gemm", [x, w, array(5, seed=2)], transA=a, transB=b, alpha=0.3)


@pytest.mark.parametrize("x", [IMAGE, array(1, 6, 20), array(4, 6), array(3, 6, 2, 2)])
def test_batch_normalization(tmp_path, x):
    parameters = [array(6, seed=k, low=0.5, high=2.0) for k in range(4)]
    graph = run(tmp_path, "BatchNormalization", [x], parameters, epsilon=1e-3)
    assert kinds(graph) == ["Binary", "Binary"]


def test_other_normalizations(tmp_path):
    parameters = [array(6, seed=1), array(6, seed=2)]
    run(tmp_path, "InstanceNormalization", [IMAGE], parameters, rtol=1e-4)
    run(tmp_path, "InstanceNormalization", [array(2, 6, 20)], parameters, rtol=1e-4)
    run(tmp_path, "GroupNormalization", [IMAGE], parameters, opset=21, num_groups=3, rtol=1e-4)
    run(tmp_path, "LRN", [IMAGE], size=3, alpha=0.01, beta=0.6, bias=1.5)
    run(tmp_path, "LRN", [array(1, 6, 4, 4)], size=5)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("axis", [-1, 0, 1, 2, 3])
def test_softmax(tmp_path, op, opset, axis):
    run(tmp_path, op, [IMAGE], opset=opset, axis=axis)


def test_softmax_of_one(tmp_path):
    run(tmp_path, "Softmax", [array(1, 1)])
    run(tmp_path, "Softmax", [array(3, 1)], axis=1)


def test_constants_fold(tmp_path):
    """Shape arithmetic of exporters leaves nothing but the Reshape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Constant", [], ["minus"], value_ints=[-1]),
        helper.make_node("Constant", [], ["first"], value_ints=[0]),
        helper.make_node("Unsqueeze", ["n", "first"], ["n1"]),
        helper.make_node("Concat", ["n1", "minus"], ["to"], axis=0),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Reshape", ["r", "to"], ["y"]),
        helper.make_node("Size", ["x"], ["count"]),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Range", ["zero", "count", "one"], ["numbers"]),
    ]
    x = array(2, 3, 4)
    outputs = ["y", "count", "zeros", "numbers"]
    graph = check(model_of(nodes, {"x": x}, outputs, opset=17), {"x": x}, tmp_path)
    assert kinds(graph).count("Unary") == 1
    assert all(n.where[0].op in ("Relu", "Reshape", "Size", "ConstantOfShape", "Range") for n in graph.nodes)


def test_each_operator_has_notes_or_is_plain():
    for entry in REGISTRY.values():
        assert entry.convert.__doc__
        assert entry.row.since >= 1
