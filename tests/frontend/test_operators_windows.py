# SPDX-License-Identifier: Apache-2.0
"""Convolutions and pools against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import check, kinds, model_of, onnx_runtime, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from mmcc.passes import optimize
from onnx import helper
from operator_models import IMAGE, array, run

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("weights", "attributes"),
    [
        ((8, 6, 3, 3), {}),
        ((8, 6, 3, 3), {"pads": [1, 2, 0, 1], "strides": [2, 1]}),
        ((8, 6, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((8, 6, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
        ((8, 6, 3, 3), {"auto_pad": "VALID", "dilations": [2, 3]}),
        ((6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
        ((8, 6, 1, 1), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((12, 1, 5, 3), {"group": 6}),
        ((8, 3, 1, 1), {"group": 2, "strides": [2, 2]}),
        ((5, 6, 7, 9), {}),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_conv(tmp_path, weights, attributes, bias):
    constants = [array(*weights, seed=1), array(weights[0], seed=2)][: 1 + bias]
    graph = run(tmp_path, "Conv", [IMAGE], constants, **attributes)
    assert kinds(graph) == ["Conv"]
    assert graph.tensors["in1"].shape == (weights[0], *weights[2:], weights[1])
    assert graph.tensors["in0"].shape == (7, 9, 6)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_strides_beyond_the_window(tmp_path, auto_pad):
    """A little is the same to all; beyond that ONNX Runtime, TensorFlow and ONNX's text differ."""
    w = array(8, 6, 1, 3, seed=1)
    run(tmp_path, "Conv", [array(1, 6, 9, 10)], [w], auto_pad=auto_pad, strides=[3, 5])
    with pytest.raises(CompileError, match="runtimes disagree"):
        run(tmp_path, "Conv", [array(1, 6, 8, 14)], [w], auto_pad=auto_pad, strides=[4, 7])


@pytest.mark.parametrize(
    "attributes",
    [{}, {"strides": [3], "pads": [2, 1]}, {"dilations": [2], "pads": [3, 3]}, {"group": 2}],
)
def test_conv_of_sequences(tmp_path, attributes):
    w = array(8, 6 // attributes.get("group", 1), 4, seed=1)
    graph = run(tmp_path, "Conv", [array(1, 6, 20)], [w, array(8, seed=2)], **attributes)
    assert kinds(graph) == ["Conv"]
    assert graph.tensors["in0"].shape == (20, 1, 6)


def test_batches(tmp_path):
    x = array(3, 6, 7, 9)
    run(tmp_path, "Conv", [x], [array(4, 6, 3, 3, seed=1)])
    run(tmp_path, "MaxPool", [x], kernel_shape=[2, 2])
    run(tmp_path, "AveragePool", [array(2, 6, 9)], kernel_shape=[2])
    run(tmp_path, "GlobalAveragePool", [x])
    run(tmp_path, "ConvTranspose", [x], [array(6, 4, 3, 3, seed=1)])


@pytest.mark.parametrize(
    ("weights", "attributes"),
    [
        ((6, 4, 3, 3), {}),
        ((6, 4, 3, 3), {"strides": [2, 3], "pads": [1, 0, 1, 2]}),
        ((6, 4, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]}),
        ((6, 4, 3, 2), {"dilations": [2, 3]}),
        ((6, 2, 3, 3), {"group": 3, "strides": [2, 2]}),
        ((6, 1, 4, 4), {"group": 6, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((6, 4, 3, 3), {"strides": [2, 2], "output_shape": [15, 18]}),
        ((6, 4, 3, 3), {"strides": [2, 2], "output_shape": [14, 18], "auto_pad": "SAME_UPPER"}),
        ((6, 4, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((6, 4, 3, 4), {"strides": [2, 3], "auto_pad": "SAME_LOWER"}),
        ((6, 4, 3, 3), {"strides": [2, 2], "auto_pad": "VALID"}),
    ],
)
def test_conv_transpose(tmp_path, weights, attributes):
    w = array(*weights, seed=1)
    graph = run(tmp_path, "ConvTranspose", [IMAGE], [w], **attributes)
    assert kinds(graph) == ["ConvTranspose"]
    bias = array(weights[1] * attributes.get("group", 1), seed=2)
    run(tmp_path, "ConvTranspose", [IMAGE], [w, bias], **attributes)


@pytest.mark.parametrize(
    ("weights", "axis", "groups", "zero", "kind"),
    [
        ((4, 3, 3, 3), 1, 1, 0, "ConvTransposeInt8"),
        ((4, 3, 3, 3), 1, 2, 0, "ConvTransposeInt8"),  # ONNX has one scale for all groups' channels k
        ((4, 4, 3, 3), 1, 2, 0, "ConvTransposeInt8"),
        ((4, 2, 3, 3), 1, 4, 0, "ConvTransposeInt8"),
        ((4, 1, 3, 3), 1, 4, 0, "ConvTransposeInt8"),
        ((4, 3, 3, 3), 0, 1, 0, "ConvTranspose"),  # a scale for each input channel
        ((4, 3, 3, 3), 0, 2, 0, "ConvTranspose"),
        ((4, 3, 3, 3), 1, 2, 100, "ConvTransposeInt8"),  # less their zero point no int8: it stays one
    ],
)
def test_conv_transpose_with_many_scales(tmp_path, weights, axis, groups, zero, kind):
    rng = np.random.default_rng(1)
    n = weights[axis]
    fixed = {"w": rng.integers(-120, 120, weights).astype(np.int8), "ws": array(n, low=0.005, high=0.02)}
    fixed |= {"wz": np.full(n, zero, np.int8), "xs": np.float32(0.03), "xz": np.int8(5)}
    fixed |= {"ys": np.float32(0.2), "yz": np.int8(-7)}
    steps = [("QuantizeLinear", "x", "xs", "xz", "q"), ("DequantizeLinear", "q", "xs", "xz", "d")]
    nodes = [helper.make_node(op, [a, s, z], [y]) for op, a, s, z, y in steps]
    nodes += [helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["v"], axis=axis)]
    nodes += [helper.make_node("ConvTranspose", ["d", "v"], ["f"], group=groups, strides=[2, 2])]
    nodes += [helper.make_node("QuantizeLinear", ["f", "ys", "yz"], ["r"])]
    nodes += [helper.make_node("DequantizeLinear", ["r", "ys", "yz"], ["y"])]
    x = array(1, 4, 5, 6)
    model = model_of(nodes, {"x": x}, ["y"], fixed)
    graph = optimize(import_model(save(model, tmp_path)))
    assert kind in kinds(graph)
    steps_off = np.abs(evaluate(graph, {"x": x})["y"] - onnx_runtime(model, {"x": x})["y"]) / np.float32(0.2)
    assert steps_off.max() < 1.01
    assert (steps_off > 0.5).mean() < 1e-3


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_activations_of_16_bits_are_said_to_be_the_reason(tmp_path, dtype):
    steps = [("QuantizeLinear", "x", "q"), ("DequantizeLinear", "q", "d"), ("Relu", "d", "r")]
    steps += [("QuantizeLinear", "r", "p"), ("DequantizeLinear", "p", "y")]
    nodes = [helper.make_node(op, [a] + ["s", "z"] * (op != "Relu"), [b]) for op, a, b in steps]
    fixed = {"s": np.float32(0.001), "z": np.array(3, dtype)}
    graph = check(model_of(nodes, {"x": IMAGE}, ["y"], fixed, opset=21, ir=10), {"x": IMAGE}, tmp_path)
    (warning,) = graph.warnings
    assert warning.startswith("model.onnx, node 1 (DequantizeLinear)")
    assert f"is quantized to {np.dtype(dtype).name}" in warning
    assert "integer kernels take int8, or int16 with a zero point of 0" in warning
    assert "(2 nodes in all)" in warning
    assert ("but for functions of one tensor" in warning) == (dtype == np.int16)


def test_conv_transpose_of_sequences(tmp_path):
    run(
        tmp_path, "ConvTranspose", [array(1, 6, 9)], [array(6, 4, 3, seed=1)], strides=[2], output_padding=[1]
    )


POOLS = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "auto_pad": "VALID"},
    {"kernel_shape": [7, 9]},
]


@pytest.mark.parametrize("attributes", POOLS)
def test_pools(tmp_path, attributes):
    assert kinds(run(tmp_path, "MaxPool", [IMAGE], **attributes)) == ["MaxPool"]
    assert kinds(run(tmp_path, "AveragePool", [IMAGE], opset=19, **attributes)) == ["AveragePool"]
    run(tmp_path, "AveragePool", [IMAGE], opset=19, count_include_pad=1, **attributes)


def test_more_pools(tmp_path):
    run(tmp_path, "MaxPool", [IMAGE], kernel_shape=[2, 2], dilations=[2, 3])
    run(tmp_path, "MaxPool", [array(1, 6, 7, 9, dtype=np.int8, low=-99, high=99)], kernel_shape=[2, 2])
    run(tmp_path, "MaxPool", [array(1, 6, 20)], kernel_shape=[3], strides=[2])
    run(tmp_path, "AveragePool", [IMAGE], opset=19, kernel_shape=[2, 2], dilations=[2, 3])
    for p in (1, 2):
        run(tmp_path, "LpPool", [IMAGE], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], p=p)
        run(tmp_path, "GlobalLpPool", [IMAGE], p=p)
    run(tmp_path, "GlobalMaxPool", [IMAGE])
    assert kinds(run(tmp_path, "GlobalAveragePool", [array(1, 6, 20)])) == ["Reduce"]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [(1, 2, 5, 6), (3, 2, 5, 6), (2, 3, 7)])
def test_where_the_largest_elements_are(tmp_path, shape, order):
    """Row by row or column by column; of all samples together."""
    x = np.random.default_rng(5).permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    given = {"kernel_shape": [3, 2][: len(shape) - 2], "strides": [2] * (len(shape) - 2)}
    run(tmp_path, "MaxPool", [x], outputs=2, storage_order=order, **given)


@pytest.mark.parametrize(
    ("op", "attributes", "said"),
    [
        ("MaxPool", {"auto_pad": "SAME_UPPER", "dilations": [2, 1]}, "dilations"),
        ("AveragePool", {"auto_pad": "SAME_LOWER", "dilations": [1, 2]}, "dilations"),
        ("MaxPool", {"auto_pad": "VALID", "ceil_mode": 1, "strides": [3, 3]}, "ceil_mode"),
        ("ConvTranspose", {"auto_pad": "SAME_UPPER", "strides": [4, 4]}, "ONNX Runtime makes"),
        ("AveragePool", {"auto_pad": "SAME_UPPER", "strides": [5, 1]}, "pass over elements"),
        ("LpPool", {"auto_pad": "SAME_UPPER", "strides": [5, 1]}, "pass over elements"),
    ],
)
def test_pads_that_onnx_runtime_takes_otherwise_are_refused(tmp_path, op, attributes, said):
    x, w = array(1, 2, 5, 7), {"w": array(2, 3, 3, 3)} if op == "ConvTranspose" else {}
    node = helper.make_node(op, ["x", *w], ["y"], kernel_shape=[3, 3], **attributes)
    for opset in (11, 19) if "dilations" not in attributes else (19,):
        path = save(model_of([node], {"x": x}, ["y"], w, opset), tmp_path)
        with pytest.raises(CompileError, match=said):
            import_model(path)
