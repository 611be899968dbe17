# SPDX-License-Identifier: Apache-2.0
"""Quantization that tf2onnx writes for 16x8 models and ONNX Runtime refuses, in forms that it takes.

Biases are int64, of which ONNX has no DequantizeLinear; activations are int16 in operator sets before 21,
where that type came. Both mean what they would mean if ONNX had them.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mmcc.frontend.registry import MICROSOFT

SINCE = 21  # 16-bit types are ONNX's own
SIXTEEN = (TensorProto.INT16, TensorProto.UINT16)


def refused_quantization(model: ModelProto) -> bool:
    """True if a node quantizes or dequantizes in a form that ONNX Runtime refuses."""
    return bool(_of_wide_constants(model) or _of_sixteen_bits(model))


def take_refused_quantization(model: ModelProto) -> None:
    """Make constants of the results of int64, and ONNX Runtime's own operators of those of 16 bits."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in _of_wide_constants(model):
        operands = [numpy_helper.to_array(tensors[name]) for name in node.input if name]
        model.graph.initializer.append(numpy_helper.from_array(_dequantized(node, *operands), node.output[0]))
        model.graph.node.remove(node)
    sixteen = _of_sixteen_bits(model)
    for node in sixteen:
        node.domain = MICROSOFT
    if sixteen and all(entry.domain != MICROSOFT for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _dequantized(
    node: NodeProto, steps: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None
) -> np.ndarray:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    along = tuple(-1 if k == axis % steps.ndim else 1 for k in range(steps.ndim)) if scale.size > 1 else ()
    if zero is not None:
        steps = steps - zero.reshape(along)
    return steps.astype(np.float32) * scale.reshape(along)


def _of_wide_constants(model: ModelProto) -> list[NodeProto]:
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and types.get(node.input[0]) == TensorProto.INT64
        and all(name in types for name in node.input if name)
    ]


def _of_sixteen_bits(model: ModelProto) -> list[NodeProto]:
    if all(entry.version >= SINCE for entry in model.opset_import if entry.domain in ("", "ai.onnx")):
        return []
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        and node.domain in ("", "ai.onnx")
        and len(node.input) > 2
        and types.get(node.input[2]) in SIXTEEN
    ]
