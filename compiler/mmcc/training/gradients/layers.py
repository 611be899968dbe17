# SPDX-License-Identifier: Apache-2.0
"""Gradients of layers with weights, and of products of matrices."""

from __future__ import annotations

from math import inf

import numpy as np

from mmcc.ir.types import Shape
from mmcc.ops.activation import Activation, Clamp, Leaky
from mmcc.ops.conv import Conv
from mmcc.ops.conv_gradient import ConvInputGradient, WeightGradient
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise_gradient import UnaryGradient
from mmcc.ops.matmul import MatMul
from mmcc.ops.movement import Transpose
from mmcc.ops.reduce import Reduce
from mmcc.ops.window import Window
from mmcc.training.gradients.registry import Backward, gradient
from mmcc.training.gradients.unknown import no_gradient


def before_activation(call: Backward, activation: Activation | None) -> str:
    """The gradient of a layer's sum: where the activation clamps, or is steep, its result tells."""
    if activation is None or activation == Clamp(-inf, inf):
        return call.whole
    y = call.node.output
    match activation:
        case Clamp(low, high):
            return call.add(UnaryGradient("clamp", (low, high)), call.g, y)
        case Leaky(slope):
            if slope <= 0:
                raise no_gradient(call.node, f"a slope of {slope:g} hides on which side its sum was")
            return call.add(UnaryGradient("leaky_relu", (slope,)), call.g, y)


def bias_gradient(call: Backward, g: str) -> str:
    """The sum over all pixels."""
    shape = call.shape(g)
    axes = tuple(k for k in range(len(shape) - 1) if shape[k] > 1)
    return call.reshaped(call.add(Reduce("sum", axes), g) if axes else g, shape[-1:])


@gradient(Conv)
def conv(op: Conv, call: Backward) -> dict[int, str]:
    """Weights may be constant, or change."""
    x, w, _ = call.node.inputs
    g = before_activation(call, op.activation)
    found: dict[int, str] = {}
    if 0 in call.wanted:
        rows, cols = call.shape(x)[:2]
        found[0] = call.add(ConvInputGradient(op.window, (rows, cols), op.groups), g, w)
    if 1 in call.wanted:
        found[1] = call.add(WeightGradient(op.window, op.groups), x, g)
    if 2 in call.wanted:
        found[2] = bias_gradient(call, g)
    return found


@gradient(ConvTranspose)
def conv_transpose(op: ConvTranspose, call: Backward) -> dict[int, str]:
    """The gradient of the input is a convolution by the weights, filters and channels exchanged."""
    x, w, _ = call.node.inputs
    g = before_activation(call, op.activation)
    found: dict[int, str] = {}
    window = _reaching(op.window, call.shape(x), op.size)
    if 0 in call.wanted:
        none = call.draft.constant(np.zeros(call.shape(x)[2], np.float32), "no_bias")
        found[0] = call.add(Conv(window, op.groups), g, _exchanged(call, w, op.groups), none)
    if 1 in call.wanted:  # of the convolution whose input is g and whose gradient is x
        found[1] = _exchanged(call, call.add(WeightGradient(window, op.groups), g, x), op.groups)
    if 2 in call.wanted:
        found[2] = bias_gradient(call, g)
    return found


def _exchanged(call: Backward, w: str, groups: int) -> str:
    """Weights [OC, KH, KW, IC / groups] with filters and channels exchanged: [IC, KH, KW, OC / groups]."""
    filters, rows, cols, depth = call.shape(w)
    if groups == 1:
        return call.add(Transpose((3, 1, 2, 0)), w)
    apart = call.reshaped(w, (groups, filters // groups, rows, cols, depth))
    turned = call.add(Transpose((0, 4, 2, 3, 1)), apart)
    return call.reshaped(turned, (groups * depth, rows, cols, filters // groups))


def _reaching(window: Window, x: Shape, size: tuple[int, int]) -> Window:
    """The window of the convolution from the result [size] to x, with pads that give x's size."""
    pads = list(window.pads)
    for axis in (0, 1):
        reach = window.dilations[axis] * (window.kernel[axis] - 1) + 1
        pads[axis + 2] = (x[axis] - 1) * window.strides[axis] + reach - size[axis] - pads[axis]
    top, left, bottom, right = pads
    return Window(window.kernel, window.strides, window.dilations, (top, left, max(0, bottom), max(0, right)))


@gradient(Dense)
def dense(op: Dense, call: Backward) -> dict[int, str]:
    """g [.., N] times w [N, K] is the gradient of x."""
    x, w, _ = call.node.inputs
    g = before_activation(call, op.activation)
    found: dict[int, str] = {}
    if 0 in call.wanted:
        rows = call.shape(g) if len(call.shape(g)) == 2 else (1, *call.shape(g))
        found[0] = call.reshaped(call.add(MatMul(), call.reshaped(g, rows), w), call.shape(x))
    if 1 in call.wanted:
        found[1] = call.add(WeightGradient(), x, g)
    if 2 in call.wanted:
        found[2] = bias_gradient(call, g)
    return found
