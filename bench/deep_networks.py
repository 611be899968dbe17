# SPDX-License-Identifier: Apache-2.0
"""Networks of as many equal blocks as asked for, as ONNX files: what plans of deep nets are measured with.

Small tensors and many nodes: what such a net takes is the planner's time. Weights are arbitrary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, EXTENT = 8, 16  # of images
TOKENS, WIDTH, HEADS = 16, 16, 2  # of transformers
BRANCHES = 4  # of an inception block; branch k is k convolutions, the first a single one


class _Net:
    """Nodes and weights of a net that is being written."""

    def __init__(self, shape: Sequence[int]) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._shape = list(shape)
        self._random = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self._nodes)

    def node(self, op: str, *reads: str, **attributes: object) -> str:
        """A node with one output; its name."""
        made = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, reads, [made], **attributes))
        return made

    def weight(self, *shape: int) -> str:
        """A constant of floats with this shape; its name."""
        values = self._random.normal(0, 0.1, shape).astype(np.float32)
        return self._constant(values)

    def numbers(self, *values: int) -> str:
        """A constant of whole numbers, as Reshape takes; its name."""
        return self._constant(np.array(values, np.int64))

    def _constant(self, values: np.ndarray) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def model(self, result: str) -> onnx.ModelProto:
        """The net from `x` to a result of the same shape."""
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, self._shape) for name in ("x", result)
        ]
        graph = helper.make_graph(self._nodes, "deep", ports[:1], ports[1:], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _conv(net: _Net, x: str, channels: int = CHANNELS, kernel: int = 3) -> str:
    pads = [kernel // 2] * 4
    return net.node("Relu", net.node("Conv", x, net.weight(CHANNELS, channels, kernel, kernel), pads=pads))


def _residual(net: _Net, x: str) -> str:
    return net.node("Add", _conv(net, _conv(net, x)), x)


def _inception(net: _Net, x: str) -> str:
    branches: list[str] = []
    for k in range(BRANCHES):
        value = x
        for _ in range(max(1, k)):
            value = _conv(net, value)
        branches.append(value)
    joined = net.node("Concat", *branches, axis=1)
    return _conv(net, joined, BRANCHES * CHANNELS, 1)


def _linear(net: _Net, x: str, rows: int, columns: int) -> str:
    return net.node("Add", net.node("MatMul", x, net.weight(rows, columns)), net.weight(columns))


def _normalized(net: _Net, x: str) -> str:
    return net.node("LayerNormalization", x, net.weight(WIDTH), net.weight(WIDTH), axis=-1)


def _heads(net: _Net, x: str, order: Sequence[int]) -> str:
    """[TOKENS, WIDTH] as one matrix a head, its axes in an order."""
    split = net.node("Reshape", x, net.numbers(TOKENS, HEADS, WIDTH // HEADS))
    return net.node("Transpose", split, perm=list(order))


def _transformer(net: _Net, x: str) -> str:
    seen = _normalized(net, x)
    q, k, v = (_linear(net, seen, WIDTH, WIDTH) for _ in range(3))
    scores = net.node("MatMul", _heads(net, q, (1, 0, 2)), _heads(net, k, (1, 2, 0)))
    mixed = net.node("MatMul", net.node("Softmax", scores, axis=-1), _heads(net, v, (1, 0, 2)))
    joined = net.node("Reshape", net.node("Transpose", mixed, perm=[1, 0, 2]), net.numbers(TOKENS, WIDTH))
    x = net.node("Add", _linear(net, joined, WIDTH, WIDTH), x)
    wide = net.node("Relu", _linear(net, _normalized(net, x), WIDTH, 4 * WIDTH))
    return net.node("Add", _linear(net, wide, 4 * WIDTH, WIDTH), x)


IMAGE, SEQUENCE = (1, CHANNELS, EXTENT, EXTENT), (TOKENS, WIDTH)
KINDS: dict[str, tuple[Sequence[int], Callable[[_Net, str], str]]] = {
    "residual": (IMAGE, _residual),
    "inception": (IMAGE, _inception),
    "transformer": (SEQUENCE, _transformer),
}


def deep(kind: str, nodes: int) -> onnx.ModelProto:
    """A net of one of the KINDS of blocks, of as many as make at least so many ONNX nodes."""
    shape, block = KINDS[kind]
    net = _Net(shape)
    value = "x"
    while len(net) < nodes:
        value = block(net, value)
    return net.model(value)


def deep_files(folder: Path, nodes: Sequence[int]) -> list[Path]:
    """Files of all kinds for each number of nodes, written into a folder."""
    made: list[Path] = []
    for count in nodes:
        for kind in KINDS:
            path = folder / f"{kind}_{count}.onnx"
            onnx.save(deep(kind, count), path)
            made.append(path)
    return made
