# SPDX-License-Identifier: Apache-2.0
"""A float network as mmcc has it, written as files of ncnn: float, or with made-up scales in int8.

Only what classifiers of images are made of. int8 is as ncnn2int8 writes it: convolutions hand int8 on where
all that read them are convolutions, and everything else is float.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from pathlib import Path

import numpy as np
from mmcc.ir.graph import Graph, Node
from mmcc.ops.activation import Clamp
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.movement import Reshape
from mmcc.ops.pool import MaxPool
from mmcc.ops.reduce import Reduce

ACTIVATION_SCALE, WEIGHT_SCALE = 20.0, 100.0  # int8 steps in 1.0
INT8_TAG, FLOAT_TAG = 0x000D4B38, 0
HANDS_ON = 100  # added to int8_scale_term where a layer's result is int8


def write_ncnn(graph: Graph, stem: Path, *, int8: bool) -> None:
    """Write `graph` to STEM.param and STEM.bin; input "in0", output "out0"."""
    writer = _Writer(graph, int8)
    lines = writer.lines()
    stem.with_suffix(".param").write_text("\n".join(["7767517", writer.head(), *lines, ""]))
    stem.with_suffix(".bin").write_bytes(b"".join(writer.data))


class _Writer:
    """Layers in order; a blob that several layers read goes through a Split, as ncnn asks."""

    def __init__(self, graph: Graph, int8: bool) -> None:
        self._graph, self._int8 = graph, int8
        self.data: list[bytes] = []
        self._readers = Counter(name for node in graph.nodes for name in node.inputs)
        self._taken: Counter[str] = Counter()
        self._lines: list[str] = []
        self._blobs = 0

    def head(self) -> str:
        return f"{len(self._lines)} {self._blobs}"

    def lines(self) -> list[str]:
        graph = self._graph
        rows, cols, channels = graph.tensors[graph.inputs[0].tensor].shape
        self._layer(
            "Input", "in0", [], graph.inputs[0].tensor, {"0": str(cols), "1": str(rows), "2": str(channels)}
        )
        for index, node in enumerate(graph.nodes):
            self._node(index, node)
        return self._lines

    def _name(self, tensor: str) -> str:
        if tensor == self._graph.inputs[0].tensor:
            return "in0"
        return (
            "out0"
            if tensor == self._graph.outputs[0].tensor
            else f"t{list(self._graph.tensors).index(tensor)}"
        )

    def _read(self, tensor: str) -> str:
        """The blob for the next reader of a tensor."""
        if self._readers[tensor] < 2:
            return self._name(tensor)
        self._taken[tensor] += 1
        return f"{self._name(tensor)}_{self._taken[tensor]}"

    def _layer(self, kind: str, name: str, inputs: list[str], output: str, values: dict[str, str]) -> None:
        blobs = " ".join([*inputs, self._name(output)])
        pairs = " ".join(f"{key}={value}" for key, value in values.items())
        self._lines.append(f"{kind} {name} {len(inputs)} 1 {blobs} {pairs}".rstrip())
        self._blobs += 1
        if self._readers[output] > 1:
            count, blob = self._readers[output], self._name(output)
            copies = " ".join(f"{blob}_{k + 1}" for k in range(count))
            self._lines.append(f"Split split_{blob} 1 {count} {blob} {copies}")
            self._blobs += count

    def _node(self, index: int, node: Node) -> None:
        op, inputs = node.op, [self._read(name) for name in node.inputs if not self._graph.is_constant(name)]
        name, y = f"n{index}", node.outputs[0]
        if isinstance(op, Conv):
            kind = "ConvolutionDepthWise" if op.groups > 1 else "Convolution"
            self._layer(kind, name, inputs, y, self._conv(node, op))
        elif isinstance(op, Dense):
            w = self._graph.constants[node.inputs[1]]
            values = {"0": str(w.shape[0]), "1": "1", "2": str(w.size)}
            if self._int8:
                values["8"] = "2"
            self._weights(w, self._graph.constants[node.inputs[2]], hands_on=False)
            self._layer("InnerProduct", name, inputs, y, values)
        elif isinstance(op, MaxPool):
            window = op.window
            values = {"0": "0", "1": str(window.kernel[0]), "2": str(window.strides[0])}
            self._layer("Pooling", name, inputs, y, values | {"3": str(window.pads[0]), "5": "1"})
        elif isinstance(op, Binary):
            self._layer("BinaryOp", name, inputs, y, {"0": "0"})
        elif isinstance(op, Unary):
            self._layer("ReLU", name, inputs, y, {})
        elif isinstance(op, Reduce):
            self._layer("Pooling", name, inputs, y, {"0": "1", "4": "1"})
        elif isinstance(op, Reshape):
            self._layer("Reshape", name, inputs, y, {"0": str(self._graph.tensors[y].shape[0])})
        else:
            raise SystemExit(f"{op} has no form for ncnn here")

    def _conv(self, node: Node, op: Conv) -> dict[str, str]:
        window, (w, bias) = op.window, (self._graph.constants[name] for name in node.inputs[1:])
        values = {"0": str(w.shape[0]), "1": str(window.kernel[1]), "11": str(window.kernel[0])}
        values |= {"3": str(window.strides[0]), "4": str(window.pads[0]), "5": "1", "6": str(w.size)}
        if op.groups > 1:
            values["7"] = str(op.groups)
        hands_on = self._int8 and self._hands_on(node.outputs[0])
        if self._int8:
            values["8"] = str((1 if op.groups > 1 else 2) + (HANDS_ON if hands_on else 0))
        if op.activation is not None:
            assert isinstance(op.activation, Clamp)
            bounded = op.activation.high != inf
            values["9"] = "3" if bounded else "1"
            if bounded:
                values["-23310"] = f"2,{op.activation.low:.1f},{op.activation.high:.1f}"
        self._weights(w.transpose(0, 3, 1, 2), bias, hands_on=hands_on)
        return values

    def _hands_on(self, tensor: str) -> bool:
        readers = [node.op for node in self._graph.nodes if tensor in node.inputs]
        return bool(readers) and all(isinstance(op, Conv) for op in readers)

    def _weights(self, w: np.ndarray, bias: np.ndarray, *, hands_on: bool) -> None:
        """[OC, IC, KH, KW], the bias, and scales of int8: by filter, of the input, of the result."""
        if not self._int8:
            self.data.append(np.uint32(FLOAT_TAG).tobytes() + w.astype(np.float32).tobytes())
            self.data.append(bias.astype(np.float32).tobytes())
            return
        values = np.clip(np.rint(w * WEIGHT_SCALE), -127, 127).astype(np.int8).tobytes()
        self.data.append(np.uint32(INT8_TAG).tobytes() + values + bytes(-len(values) % 4))
        self.data.append(bias.astype(np.float32).tobytes())
        self.data.append(np.full(w.shape[0], WEIGHT_SCALE, np.float32).tobytes())
        self.data.append(np.full(2 if hands_on else 1, ACTIVATION_SCALE, np.float32).tobytes())
