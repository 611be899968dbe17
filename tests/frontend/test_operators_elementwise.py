# SPDX-License-Identifier: Apache-2.0
"""Elementwise ONNX operators against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import check, model_of, save
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import helper
from operator_models import IMAGE, TABLE, array, floats, ints, run

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "op",
    [
        *("Abs", "Neg", "Exp", "Sqrt", "Floor", "Ceil", "Round", "Sign", "Erf", "Sin", "Cos", "Tan", "Tanh"),
        *("Atan", "Sigmoid", "HardSwish", "Softplus", "Softsign", "Relu", "LeakyRelu", "HardSigmoid", "Elu"),
        *("Selu", "Celu", "ThresholdedRelu", "Shrink", "Identity", "Log", "Reciprocal"),
    ],
)
@pytest.mark.parametrize("x", [IMAGE, TABLE, np.float32(0.5)], ids=["image", "table", "scalar"])
def test_unary(tmp_path, op, x):
    x = np.asarray(np.abs(x) + 0.1 if op in ("Sqrt", "Log") else x)
    run(tmp_path, op, [x])


@pytest.mark.parametrize(
    ("op", "opset", "attributes"),
    [
        ("LeakyRelu", 17, {"alpha": 0.3}),
        ("HardSigmoid", 17, {"alpha": 0.1, "beta": 0.3}),
        ("Elu", 17, {"alpha": 0.5}),
        ("Selu", 17, {"alpha": 1.1, "gamma": 1.2}),
        ("ThresholdedRelu", 17, {"alpha": 0.4}),
        ("Shrink", 17, {"bias": 0.2, "lambd": 0.7}),
        ("Mish", 18, {}),
        ("Gelu", 20, {}),
        ("Gelu", 20, {"approximate": "tanh"}),
        ("Clip", 10, {"min": -0.5, "max": 0.5}),
        ("Clip", 10, {"max": 0.5}),
        ("Swish", 24, {}),
        ("Swish", 24, {"alpha": 0.7}),
    ],
)
def test_parameters(tmp_path, op, opset, attributes):
    run(tmp_path, op, [IMAGE], opset=opset, **attributes)


@pytest.mark.parametrize(
    "bounds", [(floats(-1)[0], floats(1)[0]), (None, floats(1)[0]), (floats(0.5)[0],), ()]
)
def test_clip_bounds(tmp_path, bounds):
    run(tmp_path, "Clip", [IMAGE], [None if b is None else np.array(b) for b in bounds])


def test_clip_of_integers(tmp_path):
    x = array(3, 5, dtype=np.int64, low=-(2**40), high=2**40)
    run(tmp_path, "Clip", [x], [np.array(-(2**33) + 1), np.array(2**34 + 1)])


def test_clip_computed_bound(tmp_path):
    run(tmp_path, "Clip", [TABLE, np.array(-0.5, np.float32)])


BROADCASTS = [
    ((1, 6, 7, 9), (1, 6, 7, 9)),
    ((1, 6, 7, 9), (6, 1, 1)),
    ((1, 6, 7, 9), (9,)),
    ((1, 6, 1, 1), (1, 6, 7, 9)),
    ((1, 6, 1, 9), (1, 1, 7, 1)),
    ((4, 1), (1, 5)),
    ((), (3, 5)),
    ((2, 3, 4, 5, 6), (4, 1, 6)),
    ((1, 1), (1,)),
]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Less", "GreaterOrEqual"])
@pytest.mark.parametrize(("a", "b"), BROADCASTS)
@pytest.mark.parametrize("constant", [None, 0, 1])
def test_binary(tmp_path, op, a, b, constant):
    """A Conv-like layout is not involved here; test_frontend_layout has those."""
    a, b = array(*a), array(*b, seed=2)
    node = helper.make_node(op, ["a", "b"], ["y"])
    both = {"a": a, "b": b}
    fixed = {} if constant is None else {"ab"[constant]: both.pop("ab"[constant])}
    check(model_of([node], both, ["y"], fixed), both, tmp_path)


def test_integers_and_bools(tmp_path):
    a, b = array(3, 4, dtype=np.int64, low=-9, high=9), array(3, 4, dtype=np.int64, low=1, high=5, seed=1)
    for op in ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Equal", "Greater"):
        run(tmp_path, op, [a, b])
    run(tmp_path, "Mod", [a, b], fmod=1)
    run(tmp_path, "Mod", [array(3, 4), array(3, 4, seed=2)], fmod=1)
    p, q = a > 0, b > 2
    for op in ("And", "Or", "Xor"):
        run(tmp_path, op, [p, q])
    run(tmp_path, "Not", [p])
    run(tmp_path, "Where", [p, a, b])
    run(tmp_path, "Where", [p, a], [np.array(7)])
    run(tmp_path, "Neg", [a])
    run(tmp_path, "Abs", [a.astype(np.int32)])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_division_of_integers_at_the_ends_of_their_range(tmp_path, dtype):
    """ONNX Runtime traps where the quotient does not fit: here the least number is its own counterpart."""
    info = np.iinfo(dtype)
    ends = [
        info.min,
        info.min + 1,
        info.max - 1,
        info.max,
        7,
        3,
        2,
        1,
        0,
        *([-1, -2, -3, -7] if info.min else []),
    ]
    a, b = (np.array(v, dtype).reshape(-1) for v in np.meshgrid(ends, ends))
    path = save(model_of([helper.make_node("Div", ["a", "b"], ["y"])], {"a": a, "b": b}, ["y"]), tmp_path)
    (got,) = evaluate(import_model(path), {"a": a, "b": b}).values()

    def divided(u, v):
        whole = abs(u) // abs(v) * (1 if (u < 0) == (v < 0) else -1) if v else 0
        return (whole - info.min) % (info.max - info.min + 1) + info.min  # as the type wraps

    assert got.tolist() == [divided(u, v) for u, v in zip(a.tolist(), b.tolist(), strict=True)]
    assert got.dtype == dtype


def test_floats_beyond_the_integers_saturate(tmp_path):
    x = floats(2**63, 1e19, np.inf, -(2**63), -1e19, -np.inf, np.nan, 2**62, -1.5)
    node = helper.make_node("Cast", ["x"], ["y"], to=helper.np_dtype_to_tensor_dtype(np.dtype(np.int64)))
    path = save(model_of([node], {"x": x}, ["y"]), tmp_path)
    (got,) = evaluate(import_model(path), {"x": x}).values()
    most, least = 2**63 - 1, -(2**63)
    assert got.tolist() == [most, most, most, least, least, least, 0, 2**62, -1]


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, -1.0, 1.7])
def test_pow(tmp_path, exponent):
    run(tmp_path, "Pow", [np.abs(IMAGE) + 0.1], [np.array(exponent, np.float32)])


def test_pow_of_other_types(tmp_path):
    run(tmp_path, "Pow", [np.abs(TABLE)], [ints(1, 2, 3, 4, 5)])
    run(tmp_path, "Pow", [np.abs(TABLE), array(3, 5, seed=4)])


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min"])
def test_many(tmp_path, op):
    run(tmp_path, op, [array(1, 6, 3, 4), array(6, 1, 1, seed=1), array(4, seed=2)])
    run(tmp_path, op, [TABLE])


@pytest.mark.parametrize("slope", [(6, 1, 1), (1,), (6, 7, 9), (1, 9)])
def test_prelu(tmp_path, slope):
    run(tmp_path, "PRelu", [IMAGE], [array(*slope, seed=1)])


@pytest.mark.parametrize("to", [np.float32, np.int8, np.uint8, np.int16, np.int32, np.int64, bool])
def test_cast(tmp_path, to):
    target = helper.np_dtype_to_tensor_dtype(np.dtype(to))
    run(tmp_path, "Cast", [array(3, 5, low=0, high=100)], to=target)
    run(tmp_path, "Cast", [array(3, 5, low=0, high=100, dtype=np.int32)], to=target)


def test_cast_like(tmp_path):
    run(tmp_path, "CastLike", [array(3, 5, low=0, high=9)], [np.zeros(1, np.int32)], opset=19)


def test_cast_by_name(tmp_path):
    graph_of = model_of([helper.make_node("Cast", ["x"], ["y"], to="INT32")], {"x": TABLE}, ["y"], opset=5)
    graph = import_model(save(graph_of, tmp_path))
    np.testing.assert_array_equal(evaluate(graph, {"x": TABLE})["y"], TABLE.astype(np.int32))


def test_dropout(tmp_path):
    run(tmp_path, "Dropout", [TABLE], opset=11, ratio=0.3)
    run(tmp_path, "Dropout", [TABLE], [np.array(0.3, np.float32), np.array(False)])
