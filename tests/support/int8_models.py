# SPDX-License-Identifier: Apache-2.0
"""Quantized models with float results, and how far two results are apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from graphs import run
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph
from mmcc.ir.verify import check_final
from mmcc.passes import optimize
from onnx import TensorProto, helper
from ort_models import I8, U8, Model, ort


class FloatModel(Model):
    """The same with a float input that the model quantizes, and a result of any type."""

    def __init__(self, rng: np.random.Generator, dtype: type = I8, weight: type = I8) -> None:
        super().__init__(rng, dtype, weight)
        self.zeros = {I8: -3, U8: 120}

    def float_input(self, *shape: int, scale: float = 0.05) -> tuple[str, np.float32]:
        """A float input, quantized: the integers; and their scale."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return self.quantized(name, scale), np.float32(scale)

    def quantized(self, x: str, scale: float) -> str:
        zero = self.constant(np.array(self.zeros[self.dtype], self.dtype))
        return self.op("QuantizeLinear", x, self.constant(np.float32(scale)), zero)

    def real(self, q: str, scale: float) -> str:
        zero = self.constant(np.array(self.zeros[self.dtype], self.dtype))
        return self.op("DequantizeLinear", q, self.constant(np.float32(scale)), zero)

    def requantized(self, x: str, scale: float) -> str:
        return self.real(self.quantized(x, scale), scale)

    def conv(self, x: str, x_scale: np.float32, shape: tuple[int, ...], **attributes: object) -> str:
        w, b = self.weights(shape, x_scale, 0)
        return self.op("Conv", x, w, b, **attributes)

    def save(self, y: str, path: Path, opset: int = 17) -> Graph:
        """Write the model with its float output `y`, and read it as mmcc does."""
        out = helper.make_tensor_value_info(y, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", self.inputs, [out], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        path.write_bytes(model.SerializeToString())
        after = optimize(import_model(path))
        assert check_final(after) == []
        return after


def difference(path: Path, after: Graph, rng: np.random.Generator, times: int = 4) -> np.ndarray:
    """How far outputs are from ONNX Runtime's: in steps if the output is int8, else over the largest."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    gaps: list[np.ndarray] = []
    for _ in range(times):
        inputs = [rng.normal(0, 3, port.onnx_shape).astype(np.float32) for port in after.inputs]
        names = [port.onnx_name for port in after.inputs]
        want = session.run(None, dict(zip(names, inputs, strict=True)))[0]
        quant = after.outputs[0].quant
        unit = quant.scale if quant else np.abs(want).max()
        gaps.append(np.abs(run(after, *inputs)[0] - want).reshape(-1) / unit)
    return np.concatenate(gaps)
