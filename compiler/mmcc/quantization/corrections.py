# SPDX-License-Identifier: Apache-2.0
"""Two changes to a float model that make its int8 form better: equalized channels, corrected biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmcc.quantization.runs import Feed, outputs_of

MOST_SAMPLES = 64  # whose inner values are compared
LAYERS = ("Conv", "Gemm")
MOST_SCALE = 16.0  # of one channel: more moves the problem from weights into activations


def equalized(model: Any) -> Any | None:
    """The same function with like ranges in all channels between two layers; None if no layers allow it.

    A layer's output channel is divided by what the next layer's input channel is multiplied by; a Relu
    between them lets a positive factor through.
    """
    import onnx
    from onnx import numpy_helper

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weights = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in changed.graph.initializer}
    found = False
    for first, second in _pairs(changed):
        found = _equalize(first, second, weights) or found
    for tensor in changed.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return changed if found else None


def _pairs(model: Any) -> list[tuple[Any, Any]]:
    """Layers that follow each other with nothing but a Relu between, where nobody else reads."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in model.graph.output}
    pairs: list[tuple[Any, Any]] = []
    for node in model.graph.node:
        after = node
        while after.op_type in (*LAYERS, "Relu") and len(readers.get(after.output[0], [])) == 1:
            if after.output[0] in outputs:
                break
            after = readers[after.output[0]][0]
            if after.op_type != "Relu":
                break
        if node.op_type == "Conv" and after is not node and after.op_type == "Conv":
            pairs.append((node, after))
    return pairs


def _equalize(first: Any, second: Any, weights: dict[str, Any]) -> bool:
    """Scale the channels between two Convs so that both have like ranges of weights there."""
    names = [first.input[1], second.input[1], *first.input[2:3]]
    if any(name not in weights for name in names):
        return False
    a, b = weights[first.input[1]], weights[second.input[1]]
    channels, group = a.shape[0], channels_of(second, "group", 1)
    depthwise = group == channels and b.shape[1] == 1
    if b.ndim != 4 or (group != 1 and not depthwise):
        return False
    out_range = np.abs(a.reshape(channels, -1)).max(axis=1)
    by_input = np.abs((b if depthwise else b.transpose(1, 0, 2, 3)).reshape(channels, -1))
    in_range = by_input.max(axis=1)
    usable = (out_range > 0) & (in_range > 0)
    scale = np.where(usable, np.sqrt(out_range / np.maximum(in_range, 1e-12)), 1.0)
    scale = np.clip(scale, 1 / MOST_SCALE, MOST_SCALE).astype(a.dtype)
    weights[first.input[1]] = a / scale.reshape(-1, *[1] * (a.ndim - 1))
    if len(first.input) > 2:
        weights[first.input[2]] = weights[first.input[2]] / scale
    weights[second.input[1]] = b * (scale.reshape(-1, 1, 1, 1) if depthwise else scale.reshape(1, -1, 1, 1))
    return True


def channels_of(node: Any, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def corrected(model: Any, quantized: Any, feeds: Sequence[Feed]) -> Any | None:
    """The float model with biases moved by the mean error of the int8 one; None if no layer has a bias."""
    import onnx
    from onnx import numpy_helper

    layers = {
        node.output[0]: node.input[2]
        for node in model.graph.node
        if node.op_type in LAYERS and len(node.input) > 2
    }
    there = {name for node in quantized.graph.node for name in node.output}
    layers = {name: bias for name, bias in layers.items() if name in there}
    if not layers:
        return None
    shifts = _mean_errors(model, quantized, feeds[:MOST_SAMPLES], list(layers))
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    moved: Mapping[str, Any] = {bias: shifts[name] for name, bias in layers.items()}
    for tensor in changed.graph.initializer:
        if tensor.name in moved:
            array = numpy_helper.to_array(tensor)
            if array.shape == moved[tensor.name].shape:
                tensor.CopyFrom(
                    numpy_helper.from_array((array + moved[tensor.name]).astype(array.dtype), tensor.name)
                )
    return changed


def _mean_errors(model: Any, quantized: Any, feeds: Sequence[Feed], values: Sequence[str]) -> dict[str, Any]:
    """By value, float less int8, averaged over samples and all axes but the channels'."""
    total = dict[str, Any]()
    true_samples, found_samples = (outputs_of(m, feeds, values) for m in (model, quantized))
    for true_sample, found_sample in zip(true_samples, found_samples, strict=True):
        for name, true, found in zip(values, true_sample, found_sample, strict=True):
            error = (true - found).mean(axis=tuple(k for k in range(true.ndim) if k != 1))
            total[name] = total.get(name, 0) + error / len(true_samples)
    return total
