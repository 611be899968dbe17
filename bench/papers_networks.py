# SPDX-License-Identifier: Apache-2.0
"""Networks of papers on training that the model set does not have: their shapes; all weights are 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class _Maker:
    """Nodes and weights of a network of convolutions."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """A node; the name of its one result."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """A constant of zeros; its name."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
        return name

    def conv(self, x: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        """A convolution from so many channels to so many, with the normalization behind it folded in."""
        weights = self.weight(channels[1], channels[0], kernel, kernel), self.weight(channels[1])
        return self.add("Conv", x, *weights, pads=[kernel // 2] * 4, strides=[stride] * 2)

    def block(self, x: str, depth: int, width: int, before: int, stride: int) -> tuple[str, int]:
        """A residual block and its channels: two 3x3, or from 50 layers on 1x1, 3x3, 1x1."""
        after = width * 4 if depth >= 50 else width
        if depth >= 50:
            y = self.add("Relu", self.conv(x, (before, width), 1))
            y = self.add("Relu", self.conv(y, (width, width), 3, stride))
            y = self.conv(y, (width, after), 1)
        else:
            y = self.add("Relu", self.conv(x, (before, width), 3, stride))
            y = self.conv(y, (width, width), 3)
        if before != after or stride > 1:
            x = self.conv(x, (before, after), 1, stride)
        return self.add("Relu", self.add("Add", y, x)), after


def resnet(depth: int, size: int, classes: int, path: Path) -> Path:
    """A ResNet of 18 or 50 layers for images [1, 3, size, size], written to a file.

    Images of at most 64 x 64 have a 3x3 layer first, and no pool (as for CIFAR).
    """
    net, channels = _Maker(), 64
    small = size <= 64
    x = net.add("Relu", net.conv("x", (3, channels), 3 if small else 7, 1 if small else 2))
    if not small:
        x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for part, blocks in enumerate(DEPTHS[depth]):
        for k in range(blocks):
            x, channels = net.block(x, depth, 64 << part, channels, 2 if part and not k else 1)
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    y = net.add("Gemm", x, net.weight(channels, classes), net.weight(classes))
    graph = helper.make_graph(
        net.nodes,
        f"resnet{depth}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, classes])],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
