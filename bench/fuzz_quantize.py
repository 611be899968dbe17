# SPDX-License-Identifier: Apache-2.0
"""Makes a model of floats int8 as quantizers do: QuantizeLinear and DequantizeLinear around what is computed.

Scales come from one run of the float model, so that most values are far from saturation. What quantizers
differ in is drawn: signed or not, symmetric or not, per tensor or per channel, ports of floats or of
integers, tensors that share their input's scale, activations that stay between a layer and its quantization,
and a few tensors that nobody quantized. Activations of 8 or 16 bits, weights of 8 or 4, those also in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip")
SHARING = (
    "MaxPool",
    "Reshape",
    "Flatten",
    "Transpose",
    "Slice",
    "Split",
    "Gather",
    "Identity",
    "TopK",
    "DepthToSpace",
)
SHARING += ("SpaceToDepth", "GlobalMaxPool", "Resize")


@dataclass(frozen=True, slots=True)
class Scale:
    """real = (integer - zero) * step"""

    step: float
    zero: int
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Widths:
    """Bits of activations (8 or 16) and weights (8 or 4); rows of a block of MatMul's weights, or 0."""

    activations: int = 8
    weights: int = 8
    block: int = 0


class _Quantizer:
    def __init__(
        self, model: onnx.ModelProto, values: Mapping[str, NDArray[Any]], seed: Any, widths: Widths
    ) -> None:
        self.widths = widths
        self.rng = np.random.default_rng(seed)
        self.graph, self.values = model.graph, values
        self.opsets, self.ir = list(model.opset_import), model.ir_version
        self.constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[str, NDArray[Any]] = {}
        self.unsigned = self.chance(0.25)
        self.symmetric = self.chance(0.25)
        self.per_channel = self.chance(0.6)
        self.leaves = self.chance(0.3)  # some tensors are not quantized
        self.outputs = {o.name for o in model.graph.output}
        self.scales: dict[str, Scale] = {}

    def chance(self, part: float) -> bool:
        return bool(self.rng.random() < part)

    # ---- scales

    def choose(self) -> None:
        """A scale for every tensor that gets one."""
        for value in self.graph.input:
            self.scales[value.name] = self.scale_of(value.name)
        for node in self.graph.node:
            for name in node.output:
                if self.values[name].dtype.kind == "f" and not self.stays_float(node, name):
                    shared = self.scales.get(node.input[0]) if node.op_type in SHARING else None
                    self.scales[name] = shared if shared and self.chance(0.7) else self.scale_of(name)
        for node in self.graph.node:
            if node.op_type == "Concat" and node.output[0] in self.scales and self.chance(0.5):
                for name in node.input:
                    if name in self.scales:
                        self.scales[name] = self.scales[node.output[0]]

    def stays_float(self, node: onnx.NodeProto, name: str) -> bool:
        readers = self.readers.get(name, [])
        fused = len(readers) == 1 and readers[0].op_type in ACTIVATIONS and name not in self.outputs
        if fused and node.op_type in (*LAYERS, "Add", "BatchNormalization"):
            return self.chance(0.8)
        return self.leaves and self.chance(0.06)

    def scale_of(self, name: str) -> Scale:
        array = self.values[name]
        low, high = min(0.0, float(array.min())), max(0.0, float(array.max()))
        width = max(high - low, 1e-3) * float(self.rng.choice([1.0, 1.0, 1.0, 0.7, 1.4]))
        bits = self.widths.activations
        half = 2 ** (bits - 1)
        dtype = np.dtype(f"{'u' if self.unsigned else ''}int{bits}")
        if self.symmetric and not self.unsigned:
            return Scale(float(np.float32(max(-low, high, 1e-3) / (half - 1))), 0, dtype)
        step = float(np.float32(width / (2 * half - 1)))
        zero = int(np.clip(round(-half - low / step), -half, half - 1))
        return Scale(step, zero + (half if self.unsigned else 0), dtype)

    # ---- nodes

    def constant(self, name: str, array: Any) -> str:
        self.made[name] = np.asarray(array)
        return name

    def numbers(self, name: str, step: Any, zero: Any, dtype: Any) -> list[str]:
        zeros = np.zeros_like(np.asarray(step), dtype) + np.asarray(zero, dtype)
        return [self.constant(f"{name}_s", np.asarray(step, np.float32)), self.constant(f"{name}_z", zeros)]

    def quantize(self, name: str) -> None:
        scale = self.scales[name]
        numbers = self.numbers(name, scale.step, scale.zero, scale.dtype)
        if name not in self.integer_inputs:
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *numbers], [f"{name}_q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *numbers], [f"{name}_d"]))

    def weights(self, node: onnx.NodeProto) -> tuple[str, Any]:
        """Name of the dequantized weights, and their steps."""
        name, array = node.input[1], self.constants[node.input[1]]
        given = {a.name: a.i for a in node.attribute}
        group = given.get("group", 1)
        of_gemm = 0 if given.get("transB") else 1
        axis = {"Conv": 0, "Gemm": of_gemm, "MatMul": array.ndim - 1, "ConvTranspose": 1}[node.op_type]
        channels = self.per_channel and not (node.op_type == "ConvTranspose" and group > 1)
        dtype, top = (np.dtype(ml_dtypes.int4), 7) if self.widths.weights == 4 else (np.dtype(np.int8), 127)
        others = tuple(k for k in range(array.ndim) if k != axis)
        most = np.abs(array).max(axis=others) if channels else np.abs(array).max()
        more: dict[str, Any] = {"axis": axis} if channels else {}
        block = self.widths.block
        if block and node.op_type == "MatMul" and array.ndim == 2 and array.shape[0] % block == 0:
            most = np.abs(array).reshape(-1, block, array.shape[1]).max(axis=1)
            more = {"axis": 0, "block_size": block}
        step = np.maximum(most, 1e-4).astype(np.float32) / np.float32(top)
        if "block_size" in more:
            spread = step.repeat(block, axis=0)
        else:
            spread = step.reshape([-1 if k == axis else 1 for k in range(array.ndim)]) if channels else step
        held = np.clip(np.rint(array / spread), -top, top).astype(dtype)
        new = f"{name}_w{len(self.nodes)}"
        numbers = self.numbers(new, step, 0, dtype)
        self.nodes.append(
            helper.make_node("DequantizeLinear", [self.constant(f"{new}_q", held), *numbers], [new], **more)
        )
        return new, step

    def bias(self, node: onnx.NodeProto, step: Any) -> str:
        name, array = node.input[2], self.constants[node.input[2]]
        whole = (np.float32(self.scales[node.input[0]].step) * np.asarray(step, np.float32)).astype(
            np.float32
        )
        held = np.clip(np.rint(array / whole), -(2**30), 2**30).astype(np.int32)
        new = f"{name}_b{len(self.nodes)}"
        numbers = self.numbers(new, whole, 0, np.int32)
        more = {"axis": 0} if whole.ndim else {}
        self.nodes.append(
            helper.make_node("DequantizeLinear", [self.constant(f"{new}_q", held), *numbers], [new], **more)
        )
        return new

    def operand(self, node: onnx.NodeProto, index: int) -> str:
        name = node.input[index]
        if name in self.scales:
            return f"{name}_d"
        array = self.constants.get(name)
        if array is None or array.dtype != np.float32 or node.op_type not in ("Add", "Sub", "Mul", "Concat"):
            return name
        if self.chance(0.3):
            return name
        step = np.float32(max(float(np.abs(array).max()), 1e-3) / 127)
        new = f"{name}_o{len(self.nodes)}"
        held = self.constant(f"{new}_q", np.clip(np.rint(array / step), -127, 127).astype(np.int8))
        self.nodes.append(
            helper.make_node("DequantizeLinear", [held, *self.numbers(new, step, 0, np.int8)], [new])
        )
        return new

    def node(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        names = [self.operand(node, k) for k in range(len(node.input))]
        if node.op_type in LAYERS and node.input[1] in self.constants and node.input[0] in self.scales:
            names[1], step = self.weights(node)
            bias = self.constants.get(node.input[2]) if len(names) > 2 else None
            if (
                np.ndim(step) < 2
                and bias is not None
                and bias.shape == (self.values[node.output[0]].shape[1],)
            ):
                names[2] = self.bias(node, step)
        del copy.input[:]
        copy.input.extend(names)
        self.nodes.append(copy)
        for name in node.output:
            if name in self.scales:
                self.quantize(name)

    def model(self) -> onnx.ModelProto:
        self.choose()
        self.integer_inputs = {i.name for i in self.graph.input if self.chance(0.4)}
        inputs: list[onnx.ValueInfoProto] = []
        for value in self.graph.input:
            shape = self.values[value.name].shape
            if value.name in self.integer_inputs:
                kind = helper.np_dtype_to_tensor_dtype(self.scales[value.name].dtype)
                inputs.append(helper.make_tensor_value_info(f"{value.name}_q", kind, shape))
            else:
                inputs.append(value)
            self.quantize(value.name)
        for node in self.graph.node:
            self.node(node)
        outputs = [self.output(value.name) for value in self.graph.output]
        kept = {name for node in self.nodes for name in node.input}
        constants = {k: v for k, v in {**self.constants, **self.made}.items() if k in kept}
        initializers = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
        graph = helper.make_graph(self.nodes, "fuzz", inputs, outputs, initializers)
        return helper.make_model(graph, opset_imports=self.opsets, ir_version=self.ir)

    def output(self, name: str) -> onnx.ValueInfoProto:
        shape = self.values[name].shape
        if name not in self.scales:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        if self.chance(0.5):
            return helper.make_tensor_value_info(f"{name}_d", TensorProto.FLOAT, shape)
        kind = helper.np_dtype_to_tensor_dtype(self.scales[name].dtype)
        return helper.make_tensor_value_info(f"{name}_q", kind, shape)


def quantized(
    model: onnx.ModelProto, values: Mapping[str, NDArray[Any]], seed: Any, widths: Widths = Widths()
) -> onnx.ModelProto:
    """`model` in integers; `values` are all its tensors for one sample."""
    return _Quantizer(model, values, seed, widths).model()
