# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that are written as several others, against ONNX Runtime."""

from __future__ import annotations

import tracemalloc
from math import prod

import numpy as np
import pytest
from frontend_models import assert_same, check, evaluate, model_of, onnx_runtime, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.element_type import ElementType
from mmcc.ir.verify import check_final
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.ops.dense_blocked import DenseBlocked
from mmcc.ops.elementwise import Cast
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat
from mmcc.ops.matmul import MatMul
from mmcc.passes import optimize
from onnx import helper
from operator_models import IMAGE, TABLE, array, floats, ints, run

pytestmark = pytest.mark.quick

HALF = array(3, 5, low=-0.9, high=0.9)


@pytest.mark.parametrize("op", ["Asin", "Acos", "Atanh", "Sinh", "Cosh", "Asinh"])
def test_functions_of_angles(tmp_path, op):
    run(tmp_path, op, [HALF])


def test_inverse_of_cosh(tmp_path):
    run(tmp_path, "Acosh", [1 + np.abs(IMAGE)])


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, 0, 1, -2, 9, -9])
def test_trilu(tmp_path, upper, k):
    run(tmp_path, "Trilu", [array(2, 4, 5)], [] if k is None else [np.array(k)], upper=upper)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(
    "index", [ints(0, -1, 7, -9, 3), floats(1, 0, 4, 2, 5), ints(4, 1, 0).astype(np.int32)]
)
def test_one_hot(tmp_path, axis, index):
    run(tmp_path, "OneHot", [index], [np.array(5, index.dtype), floats(0.5, 2)], axis=axis)


@pytest.mark.parametrize(("opset", "axis"), [(13, 0), (13, 1), (13, -1), (11, 1), (11, 2), (11, 0)])
def test_hardmax(tmp_path, opset, axis):
    run(tmp_path, "Hardmax", [np.round(array(2, 3, 4))], opset=opset, axis=axis)


@pytest.mark.parametrize("attributes", [{}, {"k": 1}, {"k": -2, "dtype": 7}])
def test_eye_like(tmp_path, attributes):
    node = helper.make_node("EyeLike", ["x"], ["e"], **attributes)
    nodes = [node, helper.make_node("Cast", ["e"], ["f"], to=1), helper.make_node("Add", ["x", "f"], ["y"])]
    check(model_of(nodes, {"x": TABLE}, ["y"]), {"x": TABLE}, tmp_path)


@pytest.mark.parametrize(
    ("op", "attributes"), [("IsNaN", {}), ("IsInf", {}), ("IsInf", {"detect_negative": 0})]
)
def test_what_is_no_number(tmp_path, op, attributes):
    run(tmp_path, op, [floats(0, np.inf, -np.inf, np.nan, 3e38)], opset=20, **attributes)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_reductions_of_truth(tmp_path, op):
    run(tmp_path, op, [array(3, 4) > 0], [ints(1)], opset=20)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sums_so_far(tmp_path, axis, reverse, exclusive):
    run(tmp_path, "CumSum", [array(3, 4, 5)], [np.array(axis)], exclusive=exclusive, reverse=reverse)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij->ji", [(3, 4)]),
        ("ij->", [(3, 4)]),
        ("bij->bi", [(2, 3, 4)]),
        ("ii->i", [(4, 4)]),
        ("...ii->...i", [(2, 3, 3)]),
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("...ij,...jk", [(2, 3, 4), (2, 4, 5)]),
        ("i,j->ij", [(3,), (4,)]),
        ("i,i->", [(5,), (5,)]),
        ("ij,ij->i", [(3, 4), (3, 4)]),
        ("ij,kj,kl->il", [(2, 3), (4, 3), (4, 5)]),
        ("abc,cd->abd", [(2, 3, 4), (4, 5)]),
        ("nchw,c->nhw", [(1, 3, 4, 5), (3,)]),
        ("bij , bj -> bi", [(2, 3, 4), (2, 4)]),
    ],
)
def test_einsum(tmp_path, equation, shapes):
    run(tmp_path, "Einsum", [array(*shape, seed=k) for k, shape in enumerate(shapes)], equation=equation)


@pytest.mark.parametrize(
    "equation", ["ij,jk->ik", "i->ij", "ij->ii", "i1->i", "ij...->...i.", "ij->" + "j" * 600]
)
def test_wrong_equations(tmp_path, equation):
    node = helper.make_node("Einsum", ["x"], ["y"], equation=equation)
    with pytest.raises(CompileError) as caught:
        import_model(save(model_of([node], {"x": TABLE}, ["y"]), tmp_path))
    assert caught.value.code in ("MM103", "MM104")


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (floats(1, 2, 3), np.array([2, 3, 1])),
        (np.array([2, -3, 4], np.int32), np.array([2, 3, 1], np.int32)),
        (np.array([2, -3, 4]), np.array([2, 3, 0], np.int32)),
        (np.array([4, 9, 16]), floats(0.5, 0.5, 0.5)),
    ],
)
def test_powers_of_types(tmp_path, x, y):
    run(tmp_path, "Pow", [x, y])


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("op", ["Add", "Mul", "Max", "Greater", "BitwiseAnd"])
def test_wide_unsigned_integers(tmp_path, op, dtype):
    x, y = (np.random.default_rng(k).integers(0, 2**31, (3, 4)).astype(dtype) for k in (0, 1))
    run(tmp_path, op, [x, y], opset=18)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_lp_normalization(tmp_path, axis, p):
    run(tmp_path, "LpNormalization", [array(3, 4, 5)], opset=17, axis=axis, p=p)


def bytes_of(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("inner", [7, 600])
def test_sums_of_integers(tmp_path, inner):
    a, b = bytes_of(3, inner), bytes_of(inner, 5, seed=1)
    zeros = [np.array(200, np.uint8), np.array(3, np.uint8)]
    run(tmp_path, "MatMulInteger", [a], [b, *zeros])
    x, w = bytes_of(1, inner // 3, 5, 5), bytes_of(2, inner // 3, 3, 3, seed=2)
    run(tmp_path, "ConvInteger", [x], [w, *zeros], pads=[1, 1, 0, 0])


@pytest.mark.parametrize(
    ("dtype", "zero"), [(np.int8, [0]), (np.uint8, [131]), (np.int8, [3, -128, 0, 5, 127])]
)
@pytest.mark.parametrize("inner", [40, 600])
def test_weights_of_integer_products_stay_integers(tmp_path, inner, dtype, zero):
    """In flash they take the bytes that the file has, with four numbers for each output of a part; and a row
    of ones, where columns have zero points of their own that int8 cannot take off."""
    fixed = {"w": bytes_of(inner, 5, seed=1).astype(dtype), "z": np.array(131, np.uint8)}
    fixed["v"] = np.array(zero[0] if len(zero) == 1 else zero, dtype)
    a = bytes_of(3, inner)
    model = model_of([helper.make_node("MatMulInteger", ["a", "w", "z", "v"], ["y"])], {"a": a}, ["y"], fixed)
    check(model, {"a": a}, tmp_path)
    graph = optimize(import_model(save(model, tmp_path)))
    layers = [node for node in graph.nodes if isinstance(node.op, DenseInt8ToFloat)]
    parts = sum(graph.tensors[node.output].shape == (3, 5) for node in layers)
    assert 1 <= parts <= -(-inner // 258)
    assert not any(isinstance(node.op, Dense | DenseBlocked | MatMul) for node in graph.nodes)
    read = {name for node in graph.nodes for name in node.inputs if graph.is_constant(name)}
    ones = inner + parts * 12 + 5 * 4 if len(zero) > 1 else 0
    assert sum(graph.constants[name].nbytes for name in read) <= 5 * inner + parts * 5 * 16 + ones + 8


CONVOLUTIONS = {
    "padded": ((2, 5, 9, 8), (4, 5, 3, 3), {"pads": [1, 1, 1, 1]}),
    "uneven": ((1, 3, 9, 8), (4, 3, 3, 2), {"pads": [2, 0, 1, 1], "strides": [2, 1], "dilations": [1, 2]}),
    "plain": ((1, 3, 6, 6), (2, 3, 2, 2), {}),
    "depthwise": ((1, 4, 7, 7), (4, 1, 3, 3), {"group": 4, "auto_pad": "SAME_UPPER"}),
    "line": ((1, 6, 20), (3, 6, 5), {"pads": [4, 0]}),
    "in_parts": ((1, 90, 4, 4), (2, 90, 3, 3), {"pads": [1, 1, 1, 1]}),
}


@pytest.mark.parametrize("shape", CONVOLUTIONS)
@pytest.mark.parametrize("zero", [None, "constant", "computed"])
@pytest.mark.parametrize(("dtype", "w_zero"), [(np.int8, None), (np.uint8, 131), (np.int8, -7)])
def test_weights_of_integer_convolutions_stay_integers(tmp_path, shape, zero, dtype, w_zero):
    """As int8 in flash, with any zero points, padding where the zero point counts, and sums beyond 2^24."""
    (x_shape, w_shape, attributes) = CONVOLUTIONS[shape]
    x, w = bytes_of(*x_shape), bytes_of(*w_shape, seed=1).astype(dtype)
    if shape == "in_parts":
        w = np.full(w_shape, 127 if dtype == np.int8 else 255, dtype)
    inputs, fixed = {"x": x}, {"w": w}
    names = ["x", "w", "" if zero is None else "z", "" if w_zero is None else "v"]
    if w_zero is not None:
        fixed["v"] = np.array(w_zero, dtype)
    if zero is not None:
        (fixed if zero == "constant" else inputs)["z"] = np.array(117, np.uint8)
    while not names[-1]:
        names.pop()
    node = helper.make_node("ConvInteger", names, ["y"], **attributes)
    model = model_of([node], inputs, ["y"], fixed)
    check(model, inputs, tmp_path)
    graph = optimize(import_model(save(model, tmp_path)))
    layers = [node for node in graph.nodes if isinstance(node.op, ConvInt8ToFloat)]
    assert len(layers) == x_shape[0] * (2 if shape == "in_parts" else 1)
    assert not any(isinstance(node.op, Conv) for node in graph.nodes)
    weights = {node.inputs[1] for node in layers}
    assert sum(graph.constants[name].nbytes for name in weights) == w.size


@pytest.mark.parametrize("zeros", [[], [0], [3, -3]])
def test_matrices_of_integers_take_few_bytes_while_they_are_read(tmp_path, zeros):
    """Numbers of 64 bits for each weight would be 35 bytes; a vocabulary has 20 million."""
    w = np.random.default_rng(1).integers(-128, 128, (700, 600)).astype(np.int8)
    fixed = {"w": w, "z": np.resize(np.int8(zeros or [0]), 600)}
    inputs = ["a", "w", "", "z"] if zeros else ["a", "w"]
    a = np.ones((1, 700), np.int8)
    model = model_of([helper.make_node("MatMulInteger", inputs, ["y"])], {"a": a}, ["y"], fixed)
    path = save(model, tmp_path)
    import_model(path)  # what is read once for all models is there
    tracemalloc.start()
    try:
        import_model(path)
        assert tracemalloc.get_traced_memory()[1] < 12 * w.size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("of", ["computed", "known"])
@pytest.mark.parametrize(
    ("dtype", "zero"),
    [(np.int8, [0]), (np.uint8, [131]), (np.int8, [3, -128, 0, 5, 127]), (np.uint8, [7] * 5)],
)
@pytest.mark.parametrize(
    ("x_dtype", "x_zero"), [(np.uint8, 0), (np.uint8, 255), (np.int8, -128), (np.int8, 127)]
)
def test_sums_of_integers_at_their_ends(tmp_path, x_dtype, x_zero, dtype, zero, of):
    """Values and weights at the ends of their types, all of one sign: sums are as large as any."""
    x = np.stack(
        [np.full(600, np.iinfo(x_dtype).min), np.full(600, np.iinfo(x_dtype).max), np.arange(600) % 128]
    )
    w = np.stack([np.full(600, end) for end in (np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 77)], 1)
    fixed = {"w": w.astype(dtype), "v": np.array(zero[0] if len(zero) == 1 else zero, dtype)}
    given = {"a": x.astype(x_dtype), "z": np.array(x_zero, x_dtype)}
    if of == "known":
        fixed["z"] = given.pop("z")
    nodes = [
        helper.make_node("MatMulInteger", ["a", "w", "z", "v"], ["y"]),
        helper.make_node("Cast", ["y"], ["f"], to=1),
    ]
    model = model_of(nodes, given, ["y", "f"], fixed)
    check(model, given, tmp_path)


def test_dynamic_quantization(tmp_path):
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=1),
        helper.make_node("Mul", ["f", "s"], ["y"]),
    ]
    w = bytes_of(5, 4, seed=3).astype(np.int8)
    model = model_of(nodes, {"x": TABLE}, ["y"], {"w": w})
    check(model, {"x": TABLE}, tmp_path, 1e-4)
    graph = optimize(import_model(save(model, tmp_path)))
    assert Cast(ElementType.I32) not in [
        node.op for node in graph.nodes
    ]  # sums stay float where they are exact


def test_dynamic_quantization_of_a_convolution(tmp_path):
    """As ONNX Runtime's quantize_dynamic writes it: few kernels go over all elements, none converts."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("ConvInteger", ["q", "w", "z"], ["i"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["i"], ["f"], to=1),
        helper.make_node("Mul", ["f", "s"], ["y"]),
    ]
    w = bytes_of(4, 6, 3, 3, seed=3).astype(np.int8)
    model = model_of(nodes, {"x": IMAGE}, ["y"], {"w": w})
    check(model, {"x": IMAGE}, tmp_path, 1e-4)
    graph = optimize(import_model(save(model, tmp_path)))
    large = [type(n.op).__name__ for n in graph.nodes if prod(graph.tensors[n.output].shape) > 99]
    assert [kind for kind in large if kind not in ("Transpose", "Concat")] == [
        *("QuantizeBy", "FlipSign", "ConvInt8ToFloat", "Binary", "Binary")
    ]


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0])
def test_dynamic_quantization_of_one_value(tmp_path, value):
    """Silence has steps of 1: none of 0, by which nothing can be divided."""
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    x = np.full((2, 3), value, np.float32)
    check(model_of([node], {"x": x}, ["q", "s", "z"]), {"x": x}, tmp_path, 1e-6)


@pytest.mark.parametrize(("op", "attributes"), [("Relu", {}), ("LeakyRelu", {"activation_params": [0.25]})])
def test_fused_convolutions(tmp_path, op, attributes):
    w, b = array(4, 6, 3, 3, seed=4), array(4, seed=5)
    run(tmp_path, "FusedConv", [IMAGE], [w, b], domain="com.microsoft", activation=op, **attributes)


def test_fused_products(tmp_path):
    run(tmp_path, "FusedGemm", [TABLE], [array(5, 4), array(4)], domain="com.microsoft", activation="Tanh")
    run(tmp_path, "FusedMatMul", [TABLE, array(4, 5)], domain="com.microsoft", transB=1, alpha=0.5)
    run(tmp_path, "BiasGelu", [TABLE, array(5)], domain="com.microsoft")
    run(tmp_path, "FastGelu", [TABLE, array(5)], domain="com.microsoft", rtol=1e-4)


@pytest.mark.parametrize("then", ["MatMulInteger", "Reshape", "Cast"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_integers_that_are_looked_up(tmp_path, dtype, then):
    """Tables of integers say nothing of what these mean: that of an embedding whose layer is dynamic."""
    lines, w = bytes_of(30, 8, dtype=dtype), bytes_of(8, 5, dtype=np.int8)
    nodes = [helper.make_node("Gather", ["lines", "i"], ["a"])]
    more = {"MatMulInteger": ["w"], "Reshape": ["flat"], "Cast": []}[then]
    nodes.append(helper.make_node(then, ["a", *more], ["y"], **({"to": 1} if then == "Cast" else {})))
    constants = {"lines": lines, "w": w, "flat": np.array([-1])}
    used = {name: constants[name] for name in ("lines", *more)}
    given = {"i": np.array([[3, 29, 0, 3]])}
    model = model_of(nodes, given, ["y"], used)
    made = optimize(check(model, given, tmp_path))
    assert check_final(made) == []
    for name, want in evaluate(made, given).items():
        assert_same(want, onnx_runtime(model, given)[name], 1e-6)
