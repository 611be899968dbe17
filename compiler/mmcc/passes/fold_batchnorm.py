# SPDX-License-Identifier: Apache-2.0
"""Fold multiplications and additions by constants into the layer before them."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.absent import NO_BIAS
from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Shape
from mmcc.ops.dense_blocked import DenseBlocked
from mmcc.ops.elementwise import Binary
from mmcc.ops.layers import FloatLayer
from mmcc.ops.quantize import DequantizeConstant
from mmcc.passes.draft import Draft, sole_reader
from mmcc.passes.fold import constant_value

Factor = NDArray[np.float64]


def fold_batchnorm(graph: Graph) -> Graph:
    """What is left of BatchNormalization behind a layer - Mul and Add per channel - goes into its weights.

    Only behind a layer: before a padded convolution the padding would have to change too.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if not (isinstance(node.op, Binary) and _fold(draft, node, node.op.function)):
            draft.keep(node)
    return draft.graph()


def _fold(draft: Draft, node: Node, function: str) -> bool:
    x, c = node.inputs
    if function in ("add", "mul") and constant_value(draft, x) is not None:
        x, c = c, x
    layer = draft.producer.get(draft.now(x))
    value = constant_value(draft, c)
    if layer is not None and value is not None and isinstance(layer.op, DenseBlocked):
        return function == "add" and _give_bias(draft, layer, node, x, value)
    if (
        value is None
        or layer is None
        or not isinstance(layer.op, FloatLayer)
        or layer.op.activation is not None
        or sole_reader(draft.source, x) is None
        or draft.tensors[node.output].shape != draft.tensors[layer.output].shape
    ):
        return False
    channels = draft.tensors[layer.output].shape[-1]
    if not is_per_channel(value.shape, channels):
        return False
    if function == "add" and _is_bias(draft, layer, c, channels):
        bias = _reshaped(draft, draft.now(c), channels)
        draft.write(layer.op, (*layer.inputs[:2], bias), node.output, layer.where + node.where)
        return True
    scale, shift = _as_affine(function, np.broadcast_to(value.reshape(-1), (channels,)).astype(np.float64))
    return scale is not None and shift is not None and _rescale(draft, layer, node, scale, shift)


def _give_bias(draft: Draft, layer: Node, node: Node, x: str, value: NDArray[np.float32]) -> bool:
    """A layer of weights in blocks takes what is added to it as its bias; of scales it has its own."""
    assert isinstance(layer.op, DenseBlocked)
    shape = draft.tensors[layer.output].shape
    fits = is_per_channel(value.shape, shape[-1]) and draft.tensors[node.output].shape == shape
    if len(layer.inputs) > 3 + layer.op.offsets or sole_reader(draft.source, x) is None or not fits:
        return False
    bias = np.ascontiguousarray(np.broadcast_to(value.reshape(-1), shape[-1:]))
    name = draft.constant(bias, f"{node.output}_bias")
    draft.write(layer.op, (*layer.inputs, name), node.output, layer.where + node.where)
    return True


def is_per_channel(shape: Shape, channels: int) -> bool:
    """True for one number, or for one a channel along the last axis."""
    return prod(shape) == 1 or (shape[-1] == channels and prod(shape) == channels)


def _as_affine(function: str, value: Factor) -> tuple[Factor | None, Factor | None]:
    one, zero = np.ones_like(value), np.zeros_like(value)
    match function:
        case "mul":
            return value, zero
        case "div":
            return (1 / value, zero) if value.all() else (None, None)
        case "add":
            return one, value
        case "sub":
            return one, -value
        case _:
            return None, None


def _is_bias(draft: Draft, layer: Node, c: str, channels: int) -> bool:
    """True if the layer has no bias yet and `c` is one in quantized form, which must stay so."""
    bias = constant_value(draft, layer.inputs[2])
    quantized = draft.producer.get(draft.now(c))
    if quantized is None or not isinstance(quantized.op, DequantizeConstant) or bias is None or bias.any():
        return False
    return prod(draft.tensors[draft.now(c)].shape) == channels


def _reshaped(draft: Draft, name: str, channels: int) -> str:
    """The quantized constant as a vector."""
    source = draft.producer[name]
    if draft.tensors[name].shape == (channels,):
        return name
    assert isinstance(source.op, DequantizeConstant)
    vector = draft.constant(draft.constants[source.inputs[0]].reshape(channels), source.inputs[0])
    axis = 0 if len(source.op.scales) > 1 else None
    op = DequantizeConstant(source.op.scales, source.op.zero_points, axis)
    return draft.add(op, (vector,), f"{name}_vector", source.where)


def _rescale(draft: Draft, layer: Node, node: Node, scale: Factor, shift: Factor) -> bool:
    """(w x + b) * scale + shift = (w * scale) x + (b * scale + shift), where w and b are constants."""
    b = constant_value(draft, layer.inputs[2])
    same = bool((scale == 1).all())
    weights = layer.inputs[1] if same else _scaled(draft, layer, scale)
    if b is None or weights is None:
        return False
    if same and not _adds(node):
        bias = layer.inputs[2]  # a scale of ones that training keeps
    else:
        bias = _shifted(draft, layer, node, (b * scale + shift).astype(np.float32))
    draft.write(layer.op, (layer.inputs[0], weights, bias), node.output, layer.where + node.where)
    return True


def _shifted(draft: Draft, layer: Node, node: Node, values: NDArray[np.float32]) -> str:
    """The new bias: the constant that was added, if it is just that, by the model's own name for it."""
    for name in node.inputs:
        if draft.is_constant(name):
            own = draft.constants[name]
            if own.dtype == values.dtype and own.shape == values.shape and np.array_equal(own, values):
                return name
    own = layer.inputs[2].replace(NO_BIAS, ".bias") if _adds(node) else layer.inputs[2]
    return draft.constant(values, f"{own}_folded")


def _adds(node: Node) -> bool:
    """Whether a node gives a layer a bias: a scale leaves one that has none without."""
    assert isinstance(node.op, Binary)
    return node.op.function in ("add", "sub")


def _scaled(draft: Draft, layer: Node, scale: Factor) -> str | None:
    """The weights times a factor for each output channel; quantized ones keep their integers."""
    name = draft.now(layer.inputs[1])
    across = (-1, *(1,) * (len(draft.tensors[name].shape) - 1))
    if draft.is_constant(name):
        floats = (draft.constants[name] * scale.reshape(across)).astype(np.float32)
        return draft.constant(floats, f"{name}_folded")
    source = draft.producer.get(name)
    if source is None or not isinstance(source.op, DequantizeConstant) or source.op.axis not in (0, None):
        return None
    stored = draft.constants[source.inputs[0]]
    ones = np.ones(len(scale))
    zeros = (np.array(source.op.zero_points, np.int64) * ones.astype(np.int64)).reshape(across)
    centred = (stored.astype(np.int64) - zeros) * np.sign(scale).astype(np.int64).reshape(across) + zeros
    info = np.iinfo(stored.dtype)
    if centred.min() < info.min or centred.max() > info.max:
        return None  # -128 has no counterpart in int8
    scales = np.array(source.op.scales) * np.where(scale == 0, 1, np.abs(scale))
    integers = draft.constant(centred.astype(stored.dtype), f"{source.inputs[0]}_folded")
    op = DequantizeConstant(tuple(map(float, scales)), tuple(map(int, zeros.reshape(-1))), 0)
    return draft.add(op, (integers,), f"{name}_folded", source.where)
