# SPDX-License-Identifier: Apache-2.0
"""ONNX models of one layer, and what ONNX Runtime makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, checker, helper, numpy_helper, save

ort = pytest.importorskip("onnxruntime")

U8, I8 = np.uint8, np.int8


class Model:
    """A model of one layer between DequantizeLinear and QuantizeLinear, in ONNX."""

    def __init__(self, rng: np.random.Generator, dtype: type = I8, weight: type = I8) -> None:
        self.rng, self.dtype, self.weight = rng, dtype, weight
        self.nodes, self.constants, self.inputs = [], [], []

    def constant(self, data: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{kind}_{name}", **attributes))
        return name

    def scale(self, low: float, high: float, shape: tuple[int, ...] = ()) -> np.ndarray:
        return self.rng.uniform(low, high, shape).astype(np.float32)

    def zero(self, dtype: type) -> np.ndarray:
        info = np.iinfo(dtype)
        return self.rng.integers(info.min + 90, info.max - 90, dtype=dtype)

    def input(self, *shape: int, low: float = 0.01, high: float = 0.1) -> tuple[str, np.float32]:
        """A quantized input, dequantized; and its scale."""
        name = f"x{len(self.inputs)}"
        onnx_type = TensorProto.UINT8 if self.dtype is U8 else TensorProto.INT8
        self.inputs.append(helper.make_tensor_value_info(name, onnx_type, shape))
        scale = self.scale(low, high)
        zero = self.constant(np.array(self.zero(self.dtype)))
        return self.op("DequantizeLinear", name, self.constant(scale), zero), scale

    def weights(
        self, shape: tuple[int, ...], x_scale: np.float32, axis: int, channels: int = 0, whole: bool = False
    ) -> tuple[str, str]:
        """Weights per output channel on `axis`, or per tensor, with a zero point if uint8; and their bias."""
        info = np.iinfo(self.weight)
        data = self.rng.integers(info.min, info.max, shape, dtype=self.weight, endpoint=True)
        whole = whole or self.weight is U8
        scales = self.scale(0.001, 0.01, () if whole else (shape[axis],))
        zero = np.array(self.rng.integers(120, 137) if self.weight is U8 else 0, self.weight)
        w = self.dequantized(data, scales, zero, axis)
        bias = self.rng.integers(-5000, 5000, channels or shape[axis], dtype=np.int32)
        return w, self.dequantized(bias, x_scale * scales, np.int32(0), 0)

    def dequantized(self, data: np.ndarray, scales: np.ndarray, zero: np.ndarray, axis: int) -> str:
        zeros = np.full(scales.shape, zero)
        attributes = {"axis": axis} if scales.ndim else {}
        names = (self.constant(data), self.constant(scales), self.constant(zeros))
        return self.op("DequantizeLinear", *names, **attributes)

    def output(self, y: str, low: float, high: float, zero: int | None = None) -> str:
        value = self.zero(self.dtype) if zero is None else self.dtype(zero)
        return self.op(
            "QuantizeLinear", y, self.constant(self.scale(low, high)), self.constant(np.array(value))
        )

    def write(self, y: str, path: Path) -> None:
        onnx_type = TensorProto.UINT8 if self.dtype is U8 else TensorProto.INT8
        out = helper.make_tensor_value_info(y, onnx_type, None)
        graph = helper.make_graph(self.nodes, "g", self.inputs, [out], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(onnx.shape_inference.infer_shapes(model))
        save(model, path)


def conv(m: Model) -> str:
    r = m.rng
    groups, per_group = ((1, 1), (3, 2), (5, 1))[r.integers(3)]
    oc, ic = groups * int(r.integers(1, 5)), groups * per_group
    kernel = [int(k) for k in r.integers(1, 4, 2)]
    x, scale = m.input(1, ic, 9, 8)
    w, b = m.weights((oc, per_group, *kernel), scale, 0)
    pads = [int(p) for p in r.integers(0, 2, 4)]
    strides = [int(s) for s in r.integers(1, 3, 2)]
    y = m.op("Conv", x, w, b, group=groups, pads=pads, strides=strides)
    return activated(m, y, 0.02, 0.3)


def activated(m: Model, y: str, low: float, high: float) -> str:
    """Nothing, Relu or Clip between a layer and its quantization."""
    match m.rng.integers(3):
        case 0:
            y = m.op("Relu", y)
        case 1:
            y = m.op("Clip", y, m.constant(np.float32(-0.5)), m.constant(np.float32(6)))
        case _:
            pass
    return m.output(y, low, high)


def conv_transpose(m: Model) -> str:
    m.weight = I8
    x, scale = m.input(1, 4, 5, 6)
    groups = int(m.rng.integers(1, 3))
    w, b = m.weights((4, 3, 3, 2), scale, 1, 3 * groups, whole=groups > 1)
    y = m.op("ConvTranspose", x, w, b, group=groups, strides=[2, 2], pads=[1, 0, 0, 1])
    return activated(m, y, 0.02, 0.3)


def gemm(m: Model) -> str:
    x, scale = m.input(1, 40)
    w, b = m.weights((12, 40), scale, 0)
    return activated(m, m.op("Gemm", x, w, b, transB=1), 0.02, 0.3)


def matmul(m: Model) -> str:
    x, scale = m.input(1, 7, 20)
    w, b = m.weights((20, 12), scale, 1)
    return m.output(m.op("Add", m.op("MatMul", x, w), b), 0.02, 0.3)


def product(m: Model) -> str:
    """Of two activations, as queries and keys, or scores and values."""
    turned = m.rng.integers(2)
    a, _ = m.input(2, 7, 20)
    b, _ = m.input(2, *((9, 20) if turned else (20, 9)))
    b = m.op("Transpose", b, perm=[0, 2, 1]) if turned else b
    return m.output(m.op("MatMul", a, b), 0.5, 2.0)


def layer_normalization(m: Model) -> str:
    x, _ = m.input(1, 7, 24)
    scale, bias = (m.constant(m.scale(-1.5, 1.5, (24,))) for _ in range(2))
    return m.output(m.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5), 0.02, 0.04)


def arithmetic(m: Model) -> str:
    a, _ = m.input(1, 4, 9, 9)
    b, _ = m.input(1, 4, 9, 9)
    kind = ("Add", "Sub", "Mul")[m.rng.integers(3)]
    return activated(m, m.op(kind, a, b), 0.02, 0.2)


def average(m: Model) -> str:
    x, _ = m.input(1, 6, 9, 9)
    match m.rng.integers(3):
        case 0:
            y = m.op("GlobalAveragePool", x)
        case 1:
            y = m.op("ReduceMean", x, axes=[2], keepdims=int(m.rng.integers(2)))
        case _:
            count = int(m.rng.integers(2))
            y = m.op("AveragePool", x, kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=count)
    return m.output(y, 0.01, 0.1)


def softmax(m: Model) -> str:
    x, _ = m.input(1, 8, 11)
    y = m.op("Softmax", x, axis=-1)
    return m.op(
        "QuantizeLinear",
        y,
        m.constant(np.float32(1 / 256)),
        m.constant(np.array(np.iinfo(m.dtype).min, m.dtype)),
    )


def functions(m: Model) -> str:
    x, _ = m.input(1, 6, 9, 9)
    kind = ("Sigmoid", "Tanh", "LeakyRelu", "Exp", "HardSwish", "Elu", "Softplus")[m.rng.integers(7)]
    y = m.op("Mul", m.op(kind, x), m.constant(np.float32(1.7)))
    return m.output(m.op("Add", y, m.constant(np.array([0.3], np.float32))), 0.005, 0.05)


def movement(m: Model) -> str:
    a, _ = m.input(1, 4, 6, 6)
    b, _ = m.input(1, 4, 6, 6)
    y = m.op("MaxPool", m.op("Concat", a, b, axis=1), kernel_shape=[2, 2], strides=[2, 2])
    return m.output(m.op("Transpose", y, perm=[0, 2, 3, 1]), 0.02, 0.1)


LAYERS = (
    *(conv, conv_transpose, gemm, matmul, product, arithmetic),
    *(average, softmax, layer_normalization, functions, movement),
)
