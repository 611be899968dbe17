# SPDX-License-Identifier: Apache-2.0
"""May a node be a view, with no code? Its op's reference is asked, not what the op says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType, Kind
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.movement import Reshape, Slice

Array = NDArray[Any]
FAILURES = (ArithmeticError, LookupError, TypeError, ValueError)  # of a reference given numbers it is not for
SAMPLES = 256  # bit patterns that elements take: of one byte, all
EXTREMES = (0x00, 0x01, 0x7F, 0x80, 0xFF)  # highest byte of some, whose other bytes are all 00 or all FF


def at_grain(op: Op, result: Shape) -> Op:
    """The op where several elements are moved as one; `result` is the shape of its result then."""
    return replace(op, shape=result) if isinstance(op, Reshape | Slice) else op


def only_moves(graph: Graph, node: Node, shape: Callable[[str], Shape]) -> bool:
    """True if every element of the result is one of the operands', bit for bit, whatever these are.

    `shape` is that of a tensor where what views move as one is an element.
    """
    dtypes = {x.dtype for x in graph.operands(node)}
    if len(dtypes) != 1 or len(node.outputs) != 1:
        return False
    return _moves(at_grain(node.op, shape(node.output)), [shape(name) for name in node.inputs], dtypes.pop())


def _moves(op: Op, shapes: Sequence[Shape], dtype: ElementType) -> bool:
    """Where each element comes from is found with numbers in place of elements. Then elements of all kinds
    must come from there: the least and the largest, and what is no number."""
    sizes = [prod(shape) for shape in shapes]
    places = _result(op, np.arange(sum(sizes)), shapes)
    if places is None or places.dtype != np.int64:
        return False
    if places.min(initial=0) < 0 or places.max(initial=-1) >= sum(sizes):
        return False
    samples = _samples(dtype)
    for begin in range(0, SAMPLES, max(1, sum(sizes))):
        elements = np.resize(np.roll(samples, -begin), sum(sizes))
        found = _result(op, elements, shapes)
        if found is None or (found.dtype, found.shape) != (elements.dtype, places.shape):
            return False
        if found.tobytes() != elements[places].tobytes():
            return False
    return True


def _result(op: Op, elements: Array, shapes: Sequence[Shape]) -> Array | None:
    """What the op's reference makes of operands with these elements; None if they are not for it."""
    ends = np.cumsum([prod(shape) for shape in shapes])[:-1]
    operands = [part.reshape(shape) for part, shape in zip(np.split(elements, ends), shapes, strict=True)]
    try:
        return op.reference(*operands)[0]
    except FAILURES:
        return None


def _samples(dtype: ElementType) -> Array:
    """Elements of a type with different bits, in no order."""
    if dtype.kind is Kind.BOOL:
        return np.arange(SAMPLES) % 2 == 0
    if dtype.per_cell > 1:  # numpy has a byte for each, of which some bits mean nothing
        return np.arange(SAMPLES).astype(dtype.numpy)
    rng = np.random.default_rng(0)
    raw = rng.permuted(np.tile(np.arange(SAMPLES, dtype=np.uint8)[:, None], dtype.size), axis=0)
    patterns = [(low,) * (dtype.size - 1) + (high,) for low in (0x00, 0xFF) for high in EXTREMES]
    if dtype.size > 1:  # little-endian, as all machines that mmcc runs on
        raw[: len(patterns)] = patterns
    return np.ascontiguousarray(raw).view(dtype.numpy).reshape(-1)
