# SPDX-License-Identifier: Apache-2.0
"""What operators of steps of training compute that ONNX does not define, in numpy.

As ONNX Runtime has them (orttraining/core/graph/training_op_defs.cc, contrib_defs.cc).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from mmcc.errors import printable
from mmcc.frontend.imported_step import CROSS_ENTROPY
from mmcc.frontend.problems import unsupported
from mmcc.frontend.schema import domain_of
from mmcc.frontend.step_graph import attributes_of
from mmcc.frontend.training_steps import HINT

Array = NDArray[Any]
# of a node, its operands (of pools' gradients one more, see `step_values.py`), and its attributes by name
Meaning = Callable[[NodeProto, list[Array], dict[str, Any]], tuple[Array, ...]]


def meaning_of(node: NodeProto) -> Meaning | None:
    """What a node computes, if it is of an operator that is known here; None for those of ONNX's own."""
    if node.op_type in OF_ONNX_TOO and domain_of(node) != "com.microsoft":
        return None
    mode = attributes_of(node).get("mode", b"constant")
    if node.op_type == "Pad" and len(node.input) > 1 and mode == b"constant":
        return _padded
    return MEANINGS.get(node.op_type)


def _cross_entropy(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """Scores [N, C], labels [N]: the mean loss, and the logarithms of the softmax."""
    scores, labels = x[:2]
    apart = scores - scores.max(axis=1, keepdims=True)
    logs = apart - np.log(np.exp(apart).sum(axis=1, keepdims=True))
    picked = np.take_along_axis(logs, np.expand_dims(labels, 1).astype(np.int64), 1)
    return np.asarray(-picked.mean(), scores.dtype), logs.astype(scores.dtype)


def _cross_entropy_gradient(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    g, logs, labels = x[:3]
    hot = np.zeros_like(logs)
    np.put_along_axis(hot, np.expand_dims(labels, 1).astype(np.int64), 1, 1)
    return ((g * (np.exp(logs) - hot) / labels.size).astype(logs.dtype),)


def _max_pool(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """The mask holds indices into the pool's flat input."""
    g, mask, pooled = x
    found = np.zeros(pooled.size, g.dtype)
    np.add.at(found, mask.reshape(-1), g.reshape(-1))
    return (found.reshape(pooled.shape),)


def _average_pool(_: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """Each element of g [N, C, ...] goes in equal parts to those that its window read of x, whose shape is
    the last operand; to padding, too, if that was counted."""
    g, shape = operands
    rank = g.ndim - 2
    kernel = attributes["kernel_shape"]
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads, counted = attributes.get("pads", [0] * 2 * rank), attributes.get("count_include_pad", 0)
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or attributes.get("ceil_mode"):
        raise unsupported("AveragePoolGrad with auto_pad or ceil_mode", HINT)
    ins = shape[2:].tolist()
    read = np.zeros([n + pads[k] + pads[k + rank] for k, n in enumerate(ins)], g.dtype)
    inside = tuple(slice(pads[k], pads[k] + n) for k, n in enumerate(ins))
    read[(...,) if counted else inside] = 1
    taps = [_tap(tap, strides, dilations, g.shape[2:]) for tap in product(*map(range, kernel))]
    share = g / sum(read[at] for at in taps)
    found = np.zeros((*g.shape[:2], *read.shape), g.dtype)
    for at in taps:
        found[(slice(None), slice(None), *at)] += share
    return (found[(slice(None), slice(None), *inside)],)


def _tap(
    tap: Sequence[int], strides: Sequence[int], dilations: Sequence[int], shape: Sequence[int]
) -> tuple[slice, ...]:
    """What one tap of all windows reads, for each axis of the window."""
    return tuple(
        slice(t * d, t * d + (n - 1) * s + 1, s)
        for t, d, s, n in zip(tap, dilations, strides, shape, strict=True)
    )


def _softmax(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    g, y = x
    axis = attributes.get("axis", -1)
    return (y * (g - (g * y).sum(axis=axis, keepdims=True)),)


def _log_softmax(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    g, y = x
    return (g - np.exp(y) * g.sum(axis=attributes.get("axis", -1), keepdims=True),)


def _convolution(node: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """Gradients of x [N, C, ...], w [M, C / group, ...] and the bias, tap by tap, for any count of axes."""
    g, x, w = operands
    rank, groups = x.ndim - 2, attributes.get("group", 1)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads = attributes.get("pads", [0] * 2 * rank)
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise unsupported(f"{printable(node.op_type)} with auto_pad", HINT)
    wide = np.pad(x, [(0, 0), (0, 0), *((pads[k], pads[k + rank]) for k in range(rank))])
    dx, dw = np.zeros_like(wide), np.zeros_like(w)
    ins, outs = x.shape[1] // groups, w.shape[0] // groups
    parts = [(slice(k * ins, k * ins + ins), slice(k * outs, k * outs + outs)) for k in range(groups)]
    flat = _flat(g)
    for tap in product(*(range(n) for n in w.shape[2:])):
        at = _tap(tap, strides, dilations, g.shape[2:])
        for read, made in parts:
            seen = wide[(slice(None), read, *at)]
            weights = w[(made, slice(None), *tap)]
            dw[(made, slice(None), *tap)] = np.einsum("nmi,nci->mc", flat[:, made], _flat(seen))
            dx[(slice(None), read, *at)] += np.einsum("nm...,mc->nc...", g[:, made], weights)
    inside = tuple(slice(pads[k], pads[k] + x.shape[2 + k]) for k in range(rank))
    return dx[(slice(None), slice(None), *inside)], dw, g.sum(axis=(0, *range(2, g.ndim)))


def _flat(array: Array) -> Array:
    """[N, C, ...] as [N, C, elements]."""
    return array.reshape(*array.shape[:2], -1)


def _normalized(_: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """Gradients of x, scale and bias of LayerNormalization, from mean and 1 / deviation."""
    g, x, scale, mean, factor = operands
    axis = attributes.get("axis", -1) % x.ndim
    axes, before = tuple(range(axis, x.ndim)), tuple(range(axis))
    normal, scaled = (x - mean) * factor, g * scale
    middle = scaled.mean(axis=axes, keepdims=True) + normal * (scaled * normal).mean(axis=axes, keepdims=True)
    return factor * (scaled - middle), (g * normal).sum(axis=before), g.sum(axis=before)


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _gelu_slope(x: Array) -> Array:
    return 0.5 * (1 + _erf(x / math.sqrt(2))) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _fast_gelu(x: Array) -> Array:
    """By tanh."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _fast_gelu_slope(x: Array) -> Array:
    bent = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return 0.5 * (1 + bent) + 0.5 * x * (1 - bent * bent) * inner


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


def _of_sum(function: Callable[[Array], Array]) -> Meaning:
    """A function of x, or of x and a bias."""
    return lambda _, operands, attributes: (function(sum(operands[1:], operands[0])),)


def _slope_of_sum(slope: Callable[[Array], Array]) -> Meaning:
    """A gradient by the slope at x, or at x and a bias."""
    return lambda _, operands, attributes: (operands[0] * slope(sum(operands[2:], operands[1])),)


def _quick_gelu(_: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    (x,) = operands
    return (x / (1 + np.exp(-attributes.get("alpha", 1.702) * x)),)


def _quick_gelu_grad(_: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    g, x = operands
    alpha = attributes.get("alpha", 1.702)
    share = 1 / (1 + np.exp(-alpha * x))
    return (g * share * (1 + alpha * x * (1 - share)),)


def _product(node: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """FusedMatMul: each operand may be transposed in its last two axes."""
    if attributes.get("transBatchA") or attributes.get("transBatchB"):
        raise unsupported(f"{printable(node.op_type)} with transposed batches", HINT)
    a, b = (
        np.swapaxes(x, -1, -2) if attributes.get(name) else x
        for x, name in zip(operands, ("transA", "transB"), strict=True)
    )
    return ((attributes.get("alpha", 1.0) * (a @ b)).astype(a.dtype),)


def _quotient(_: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """Gradients of a and b of a / b, summed over what was repeated of each."""
    g, a, b = operands
    return _summed_to(g / b, a.shape), _summed_to(-g * a / (b * b), b.shape)


def _summed_to(array: Array, shape: tuple[int, ...]) -> Array:
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    axes = tuple(k for k, n in enumerate(shape) if n == 1)
    return array.sum(axis=axes, keepdims=True)


def _gathered(_: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """The gradient of what a Gather reads: its shape, indices, and the gradient of what was gathered."""
    shape, indices, g = operands
    axis = attributes.get("axis", 0) % len(shape)
    found = np.zeros([shape[axis], *(n for k, n in enumerate(shape) if k != axis)], g.dtype)
    lines = np.moveaxis(g, range(axis, axis + indices.ndim), range(indices.ndim))
    np.add.at(found, indices.reshape(-1) % shape[axis], lines.reshape(-1, *found.shape[1:]))
    return (np.moveaxis(found, 0, axis),)


def _sliced(_: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """The gradient of what a Slice reads: g, the shape, and starts, ends, axes and steps."""
    g, shape, starts, ends, *more = operands
    axes = more[0].tolist() if more and more[0].size else list(range(len(starts)))
    steps = more[1].tolist() if len(more) > 1 and more[1].size else [1] * len(starts)
    found, at = np.zeros(shape, g.dtype), [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        n = int(shape[axis])
        start, end = (k + n if k < 0 else k for k in (start, end))
        end = None if step < 0 and end < 0 else end
        at[axis] = slice(min(max(start, 0), n if step > 0 else n - 1), end, step)
    found[tuple(at)] = g
    return (found,)


def _joined(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """ConcatTraining also tells how long each operand is, along the axis."""
    axis = attributes["axis"]
    return np.concatenate(x, axis), np.array([one.shape[axis] for one in x], np.int64)


def _split(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    return tuple(np.split(x[0], np.cumsum(x[1])[:-1], attributes.get("axis", 0)))


def _padded(node: NodeProto, operands: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """ONNX's Pad with a constant: what is negative takes rows away, which its reference refuses."""
    x, pads = operands[:2]
    axes = operands[3].tolist() if len(operands) > 3 and operands[3].size else list(range(x.ndim))
    more = np.zeros((x.ndim, 2), np.int64)
    more[axes] = pads.reshape(2, -1).T
    x = x[tuple(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(more.tolist(), x.shape, strict=True))]
    value = operands[2].item() if len(operands) > 2 and operands[2].size else 0
    return (np.pad(x, np.maximum(more, 0), constant_values=value),)


def _scale(_: NodeProto, x: list[Array], attributes: dict[str, Any]) -> tuple[Array, ...]:
    factor = x[1].astype(x[0].dtype)
    return (x[0] / factor if attributes.get("scale_down") else x[0] * factor,)


MEANINGS: dict[str, Meaning] = {
    **dict.fromkeys(CROSS_ENTROPY, _cross_entropy),
    "SoftmaxCrossEntropyLossGrad": _cross_entropy_gradient,
    "SoftmaxCrossEntropyLossInternalGrad": _cross_entropy_gradient,
    "ReluGrad": lambda _, x, a: (x[0] * (x[1] > 0),),
    "SigmoidGrad": lambda _, x, a: (x[0] * x[1] * (1 - x[1]),),
    "TanhGrad": lambda _, x, a: (x[0] * (1 - x[1] * x[1]),),
    "LeakyReluGrad": lambda _, x, a: (np.where(x[1] > 0, x[0], a.get("alpha", 0.01) * x[0]),),
    "MaxPoolGrad": _max_pool,
    "SoftmaxGrad": _softmax,
    "SoftmaxGrad_13": _softmax,
    "LogSoftmaxGrad": _log_softmax,
    "LogSoftmaxGrad_13": _log_softmax,
    "ConvGrad": _convolution,
    "LayerNormalizationGrad": _normalized,
    "Scale": _scale,
    "AveragePoolGrad": _average_pool,
    "Gelu": _of_sum(_gelu),
    "BiasGelu": _of_sum(_gelu),
    "FastGelu": _of_sum(_fast_gelu),
    "QuickGelu": _quick_gelu,
    "GeluGrad": _slope_of_sum(_gelu_slope),
    "BiasGeluGrad_dX": _slope_of_sum(_gelu_slope),
    "FastGeluGrad": _slope_of_sum(_fast_gelu_slope),
    "BiasFastGeluGrad_dX": _slope_of_sum(_fast_gelu_slope),
    "QuickGeluGrad": _quick_gelu_grad,
    "FusedMatMul": _product,
    "DivGrad": _quotient,
    "GatherGrad": _gathered,
    "SliceGrad": _sliced,
    "ConcatTraining": _joined,
    "SplitTraining": _split,
}
OF_ONNX_TOO = frozenset({"Gelu"})  # ONNX's own has attributes
