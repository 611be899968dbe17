# SPDX-License-Identifier: Apache-2.0
"""Graphs by hand for the planner's tests: a small builder and the networks whose best peaks are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcc.errors import Where
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.ports import Port
from mmcc.ir.types import Shape, Tensor
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.elementwise_int8 import AddInt8
from mmcc.ops.movement import Concat, Reshape, Slice
from mmcc.ops.pool import AveragePoolInt8, MaxPool
from mmcc.ops.reduce import MeanInt8
from mmcc.ops.softmax import SoftmaxInt8
from mmcc.ops.window import Window

Size = int | tuple[int, int]


class Build:
    """Adds nodes one by one; every method returns the name of the tensor it made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Any] = {}
        self.nodes: list[Node] = []
        self.inputs: list[str] = []

    def input(self, *shape: int, dtype: ElementType = ElementType.I8) -> str:
        name = f"x{len(self.inputs)}"
        self.tensors[name] = Tensor(name, shape, dtype)
        self.inputs.append(name)
        return name

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        self.tensors[name] = Tensor(name, array.shape, ElementType.of(array))
        return name

    def add(self, op: Op, *inputs: str) -> str:
        (name,) = self.add_all(op, *inputs)
        return name

    def add_all(self, op: Op, *inputs: str) -> tuple[str, ...]:
        """A node with any number of results."""
        index = len(self.nodes)
        results = op.results(*(self.tensors[n] for n in inputs))
        names = tuple(f"t{index}" + (f"_{k}" if k else "") for k in range(len(results)))
        for name, (shape, dtype) in zip(names, results, strict=True):
            self.tensors[name] = Tensor(name, shape, dtype)
        where = Where(self.name, index, type(op).__name__, f"node {index}")
        self.nodes.append(Node(op, inputs, names, (where,)))
        return names

    def graph(self, *outputs: str) -> Graph:
        ports = [
            tuple(Port(n, n, (1, *self.tensors[n].shape), self.tensors[n].dtype, ()) for n in names)
            for names in (self.inputs, outputs)
        ]
        return Graph(self.name, self.tensors, self.constants, tuple(self.nodes), *ports)

    def shape(self, name: str) -> Shape:
        return self.tensors[name].shape

    def conv(self, x: str, channels: int, kernel: Size, stride: Size = 1, depthwise: bool = False) -> str:
        """SAME padding, as TensorFlow places it."""
        taps, step = _pair(kernel), _pair(stride)
        groups = self.shape(x)[2] if depthwise else 1
        pads = [_same(n, k, s) for n, k, s in zip(self.shape(x)[:2], taps, step, strict=True)]
        window = Window(taps, step, (1, 1), (pads[0][0], pads[1][0], pads[0][1], pads[1][1]))
        weights = np.zeros((channels, *taps, self.shape(x)[2] // groups), np.int8)
        return self.add(ConvInt8(window, 0, 0, groups), x, self.constant(weights), *self._scales(channels))

    def depthwise(self, x: str, kernel: Size, stride: Size = 1) -> str:
        return self.conv(x, self.shape(x)[2], kernel, stride, depthwise=True)

    def dense(self, x: str, channels: int) -> str:
        weights = np.zeros((channels, self.shape(x)[-1]), np.int8)
        return self.add(DenseInt8(0, 0), x, self.constant(weights), *self._scales(channels))

    def sum(self, a: str, b: str) -> str:
        return self.add(AddInt8((0, 0), (1, 1), 1, 0), a, b)

    def pool(self, x: str, kernel: Size) -> str:
        scale = self.constant(np.ones(1, np.int32)), self.constant(np.ones(1, np.int8))
        return self.add(AveragePoolInt8(Window(_pair(kernel), _pair(kernel)), 0, 0), x, *scale)

    def max_pool(self, x: str, kernel: int, stride: int) -> str:
        return self.add(MaxPool(Window(_pair(kernel), _pair(stride))), x)

    def mean(self, x: str) -> str:
        return self.add(MeanInt8((0, 1), 0, 0, 1, 1), x)

    def softmax(self, x: str) -> str:
        return self.add(SoftmaxInt8(1, 0), x, self.constant(np.ones(256, np.int32)))

    def reshape(self, x: str, *shape: int) -> str:
        return self.add(Reshape(shape), x)

    def concat(self, axis: int, *parts: str) -> str:
        return self.add(Concat(axis), *parts)

    def slice(self, x: str, starts: Shape, shape: Shape) -> str:
        return self.add(Slice(starts, (1,) * len(shape), shape), x)

    def _scales(self, channels: int) -> tuple[str, str, str]:
        return (
            self.constant(np.zeros(channels, np.int32)),
            self.constant(np.ones(channels, np.int32)),
            self.constant(np.ones(channels, np.int8)),
        )


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _same(extent: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max(0, (-(-extent // stride) - 1) * stride + kernel - extent)
    return total // 2, total - total // 2


def kws() -> Graph:
    b = Build("kws")
    y = b.conv(b.input(49, 10, 1), 64, (10, 4), 2)
    for _ in range(4):
        y = b.conv(b.depthwise(y, 3), 64, 1)
    y = b.reshape(b.pool(y, (25, 5)), 64)
    return b.graph(b.softmax(b.dense(y, 12)))


def resnet8() -> Graph:
    b = Build("resnet8")
    x = b.conv(b.input(32, 32, 3), 16, 3)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = b.conv(b.conv(x, channels, 3, stride), channels, 3)
        x = b.sum(x if stride == 1 else b.conv(x, channels, 1, stride), y)
    y = b.reshape(b.pool(x, 8), 64)
    return b.graph(b.softmax(b.dense(y, 10)))


def vww() -> Graph:
    b = Build("vww")
    x = b.conv(b.input(96, 96, 3), 8, 3, 2)
    plan = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for channels, stride in plan:
        x = b.conv(b.depthwise(x, 3, stride), channels, 1)
    y = b.reshape(b.pool(x, 3), 256)
    return b.graph(b.softmax(b.dense(y, 2)))


def ad() -> Graph:
    b = Build("ad")
    x = b.input(640)
    for channels in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        x = b.dense(x, channels)
    return b.graph(x)


def mobilenetv2(width: float, size: int, classes: int = 1000) -> Graph:
    b = Build(f"mobilenetv2-{width}-{size}")
    x = b.conv(b.input(size, size, 3), _div8(32 * width), 3, 2)
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
    for expand, channels, repeat, stride in [*table, (6, 320, 1, 1)]:
        for i in range(repeat):
            before, y = b.shape(x)[2], x
            if expand != 1:
                y = b.conv(y, before * expand, 1)
            y = b.conv(b.depthwise(y, 3, stride if i == 0 else 1), _div8(channels * width), 1)
            x = b.sum(x, y) if b.shape(x) == b.shape(y) else y
    y = b.mean(b.conv(x, _div8(1280 * max(1.0, width)), 1))
    return b.graph(b.dense(b.reshape(y, b.shape(y)[2]), classes))


def _div8(v: float) -> int:
    n = max(8, int(v + 4) // 8 * 8)
    return n + 8 if n < 0.9 * v else n


def unet(size: int = 96, base: int = 8) -> Graph:
    """Skip connections by Concat; nearest-neighbour growth by ResizeNearest."""
    from mmcc.ops.resize import ResizeNearest

    b = Build("unet")
    x, skips, c = b.input(size, size, 1), list[str](), base
    for _ in range(3):
        x = b.conv(b.conv(x, c, 3), c, 3)
        skips.append(x)
        x, c = b.max_pool(x, 2, 2), 2 * c
    x = b.conv(b.conv(x, c, 3), c, 3)
    for skip in reversed(skips):
        c //= 2
        n = b.shape(skip)[0]
        taken = tuple(k // 2 for k in range(n))
        x = b.conv(b.add(ResizeNearest(taken, taken), x), c, 3)
        x = b.conv(b.conv(b.concat(2, skip, x), c, 3), c, 3)
    return b.graph(b.conv(x, 2, 1))


KNOWN = {
    "kws": (kws, 8_640),
    "resnet8": (resnet8, 33_792),
    "vww": (vww, 37_248),
    "ad": (ad, 768),
    "mobilenetv2-0.35-144": (lambda: mobilenetv2(0.35, 144), 250_560),
    "mobilenetv2-1.0-224": (lambda: mobilenetv2(1.0, 224), 1_209_600),
}
# with rows in one direction only; where nothing is said, that is as good
FORWARD = {"kws": 11_840, "vww": 37_632, "mobilenetv2-0.35-144": 251_136, "mobilenetv2-1.0-224": 1_211_392}
