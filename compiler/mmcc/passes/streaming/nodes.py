# SPDX-License-Identifier: Apache-2.0
"""Nodes that carry rows to where a node of a hop, or of the end of a stream, reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.types import Quant, Shape, Tensor
from mmcc.ops.conv_transpose import ConvTranspose, ConvTransposeInt8
from mmcc.ops.int8_to_float import ConvTransposeInt8ToFloat
from mmcc.ops.movement import Concat, Expand, Pad, Reshape, Slice
from mmcc.ops.resize import ResizeInt8, ResizeLinear, ResizeNearest
from mmcc.passes.streaming.reads import RowReads

TRANSPOSED = ConvTranspose | ConvTransposeInt8 | ConvTransposeInt8ToFloat


class Nodes:
    """The nodes and tensors of a graph that is made out of that of a whole sequence."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}  # that the whole has otherwise

    def rows_of(self, name: str, rows: list[int], step: int = 1) -> str:
        """A tensor of some rows of another, `step` apart."""
        tensor = self.tensors[name]
        if rows == list(range(tensor.shape[0])):
            return name
        shape, rank = (len(rows), *tensor.shape[1:]), len(tensor.shape)
        steps = (step if len(rows) > 1 else 1, *(1 for _ in range(rank - 1)))
        made = self.named(f"{name}.taps", shape, tensor)
        starts = (rows[0], *(0 for _ in range(rank - 1)))
        self.nodes.append(Node(Slice(starts, steps, shape), (name,), (made,)))
        return made

    def joined(self, name: str, parts: list[str]) -> str:
        """The rows of several tensors, one behind the other, as a tensor like `name`."""
        if len(parts) == 1:
            return parts[0]
        tensor = self.tensors[name]
        rows = sum(self.tensors[part].shape[0] for part in parts)
        made = self.named(f"{name}.rows", (rows, *tensor.shape[1:]), tensor)
        self.nodes.append(Node(Concat(0), tuple(parts), (made,)))
        return made

    def repeated(self, whole: Graph, name: str, period: int, rows: int) -> str:
        """As many rows as asked for of a constant whose rows repeat; the same in all graphs of a stream."""
        data, made = whole.constants[name], f"{name}.{rows}_rows_of_{period}"
        if len(data) == rows:
            return name
        self.constants[made] = data[np.arange(rows) % period]
        self.tensors[made] = replace(self.tensors[name], name=made, shape=self.constants[made].shape)
        return made

    def add(self, op: Op, inputs: Iterable[str], outputs: tuple[str, ...], node: Node) -> None:
        """The node of the whole sequence on other rows: its tensors must be those that are known."""
        names = tuple(inputs)
        results = op.results(*(self.tensors[name] for name in names))
        for name, (shape, dtype) in zip(outputs, results, strict=True):
            known = self.tensors[name]
            assert (known.shape, known.dtype) == (shape, dtype), f"{op} of a hop makes {shape}, not {known}"
        self.nodes.append(Node(op, names, outputs, node.where))

    def named(self, hint: str, shape: Shape, like: Tensor) -> str:
        """A new tensor with the type and quantization of another."""
        while hint in self.tensors:
            hint += "_"
        quant: Quant | None = like.quant
        self.tensors[hint] = Tensor(hint, shape, like.dtype, quant)
        return hint


def on_rows(op: Op, rows: int, reads: Mapping[int, RowReads], *, ends: bool = False) -> Op:
    """The operator that makes `rows` rows of just those that it needs: none is padded or skipped.

    `reads` is which rows it reads of its operands. With `ends` the rows are the last of the sequence, and
    what the operator pads behind them it pads here.
    """
    changed: Any = op
    if isinstance(op, TRANSPOSED):
        (top, *others), (each,) = op.window.pads, reads.values()
        window = replace(op.window, pads=(top - each.up * min(each.taps), *others))
        return replace(op, window=window, size=(rows, op.size[1]))
    if isinstance(op, ResizeNearest | ResizeLinear | ResizeInt8):
        (each,) = reads.values()
        table, first = op.rows if isinstance(op, ResizeNearest) else op.row_first, min(each.taps)
        taken = tuple(each.stride * (r // each.up) + table[r % each.up] - first for r in range(rows))
        return replace(op, rows=taken) if isinstance(op, ResizeNearest) else replace(op, row_first=taken)
    window = getattr(changed, "window", None)
    if window is not None:
        _, left, below, right = window.pads
        dilation = 1 if rows == 1 and not ends else window.dilations[0]
        pads, dilations = (0, left, below if ends else 0, right), (dilation, window.dilations[1])
        changed = replace(changed, window=replace(window, pads=pads, dilations=dilations))
    if (counted := getattr(changed, "counted", None)) is not None:
        changed = replace(changed, counted=(0, counted[1], counted[2] if ends else 0, counted[3]))
    match op:
        case Pad():
            after = op.after[0] if ends else 0
            return replace(op, before=(0, *op.before[1:]), after=(after, *op.after[1:]))
        case Slice():
            return replace(op, starts=(0, *op.starts[1:]), shape=(rows, *op.shape[1:]))
        case Reshape() | Expand():
            return replace(op, shape=(rows, *op.shape[1:]))
        case _:
            return changed
