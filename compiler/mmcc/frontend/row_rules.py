# SPDX-License-Identifier: Apache-2.0
"""Rules of operators that may read rows of which only the run tells whether they are there.

A rule says along which axis of the results such rows are, those that are there first. Where a model reads a
row by its number, or gives all of them a fixed shape, ONNX Runtime fails if there are fewer; so there the
result has no rows that may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from math import prod

import onnx
from onnx import NodeProto

from mmcc.frontend.builder import Builder
from mmcc.frontend.converters.elementwise import BINARY, PLAIN
from mmcc.frontend.value import Value
from mmcc.ir.types import Shape


class Mixed(Exception):
    """Rows that are there would depend on others that may not be, or on how many there are."""

    def __str__(self) -> str:
        return "it may mix rows of which only the run tells whether NonMaxSuppression has found them"


@dataclass(frozen=True, slots=True)
class Rows:
    """Along `axis` the rows that are there come first, and others may follow.

    Equal `count`s are equal numbers of rows: found by one NonMaxSuppression, cut and grouped alike.
    """

    axis: int
    count: tuple[Hashable, ...]

    def counted(self, *what: Hashable) -> Rows:
        """With another number of rows, which follows from this one and from `what` was done."""
        return replace(self, count=(*self.count, what))


@dataclass(frozen=True, slots=True)
class Step:
    """A node, its operands, which of them have such rows, and the shape of its first result."""

    build: Builder
    node: NodeProto
    values: tuple[Value | None, ...]
    rows: tuple[Rows | None, ...]
    shape: Shape

    def input(self, index: int) -> Value:
        """An operand that must be there."""
        value = self.values[index]
        assert value is not None
        return value

    def main(self) -> tuple[Value, Rows]:
        """The first operand and its rows, where no other has any."""
        rows = self.rows[0]
        if rows is None or any(self.rows[1:]):
            raise Mixed
        return self.input(0), rows

    def attribute(self, name: str, default: int = 0) -> int:
        """A whole number."""
        return next((a.i for a in self.node.attribute if a.name == name), default)

    def axis(self, rank: int, default: int = 0) -> int:
        """The attribute `axis`, counted from the front."""
        return self.attribute("axis", default) % rank

    def integers(self, index: int, name: str) -> list[int] | None:
        """A constant list of integers, an operand or in old operator sets an attribute; None if left out."""
        for attribute in self.node.attribute:
            if attribute.name == name and attribute.type == onnx.AttributeProto.INTS:
                return list(attribute.ints)
        value = self.values[index] if index < len(self.values) else None
        if value is None:
            return None
        if not self.build.is_constant(value.tensor):
            raise Mixed
        return self.build.array(value).reshape(-1).tolist()


# ---- element by element


def _elementwise(step: Step) -> Rows:
    """Operands broadcast: at the axis of rows the others have the same number of them, or extent 1.

    An operand of as many rows as there may be would be one of another shape than is found, and if one row is
    found, all others would be made of it.
    """
    given = [(value, rows) for value, rows in zip(step.values, step.rows, strict=True) if value is not None]
    rank = max(value.rank for value, _ in given)
    found = {replace(rows, axis=rows.axis + rank - value.rank) for value, rows in given if rows is not None}
    if len(found) > 1:
        raise Mixed
    (rows,) = found
    for value, own in given:
        if own is None and value.padded(rank).shape[rows.axis] != 1:
            raise Mixed
    return rows


def _cast_like(step: Step) -> Rows | None:
    return step.rows[0]  # the other operand is there for its type


def _quantized(step: Step) -> Rows:
    """Scales and zero points are one number, or lie along another axis."""
    x, rows = step.main()
    for value in step.values[1:]:
        along = value is None or value.size == 1 or (value.rank == 1 and step.axis(x.rank, 1) != rows.axis)
        if not along:
            raise Mixed
    return rows


# ---- moves


def _identity(step: Step) -> Rows:
    return step.main()[1]


def _transpose(step: Step) -> Rows:
    x, rows = step.main()
    perm = next((list(a.ints) for a in step.node.attribute if a.name == "perm"), [*range(x.rank)][::-1])
    return replace(rows, axis=perm.index(rows.axis))


def _grouped(rows: Rows, old: Shape, new: Shape, axis: int) -> Rows:
    """The same elements in another shape, whose `axis` has the rows.

    Where that is neither as far from the front, rows that are not there come to lie between others.
    """
    if prod(old[: rows.axis]) != prod(new[:axis]):
        raise Mixed
    before, after = prod(old[rows.axis + 1 :]), prod(new[axis + 1 :])
    moved = replace(rows, axis=axis)
    return moved if before == after else moved.counted("grouped", before, after)


def _reshape(step: Step) -> Rows | None:
    """Rows are where the shape says -1, or copies their axis; of another fixed shape all must be there."""
    x, rows = step.main()
    wanted = step.integers(1, "shape") or []
    copied = rows.axis < len(wanted) and wanted[rows.axis] == 0 and not step.attribute("allowzero")
    if copied:
        return _grouped(rows, x.shape, step.shape, rows.axis)
    return _grouped(rows, x.shape, step.shape, wanted.index(-1)) if -1 in wanted else None


def _flatten(step: Step) -> Rows:
    x, rows = step.main()
    axis = step.attribute("axis", 1)
    axis += x.rank if axis < 0 else 0
    return _grouped(rows, x.shape, step.shape, 0 if rows.axis < axis else 1)


def _squeeze(step: Step) -> Rows | None:
    """Without axes named, those of extent 1 go: with one row found, that of rows."""
    x, rows = step.main()
    axes = step.integers(1, "axes")
    if axes is None:
        raise Mixed
    gone = {axis % x.rank for axis in axes}
    return None if rows.axis in gone else replace(rows, axis=rows.axis - sum(k < rows.axis for k in gone))


def _unsqueeze(step: Step) -> Rows:
    _, rows = step.main()
    rank = len(step.shape)
    new = {axis % rank for axis in step.integers(1, "axes") or []}
    return replace(rows, axis=[k for k in range(rank) if k not in new][rows.axis])


def _slice(step: Step) -> Rows:
    """Rows counted from the front, in their order."""
    x, rows = step.main()
    starts, ends = step.integers(1, "starts") or [], step.integers(2, "ends") or []
    axes, steps = step.integers(3, "axes") or [*range(len(starts))], step.integers(4, "steps")
    for start, end, axis, by in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        if axis % x.rank != rows.axis:
            continue
        if start < 0 or end < 0 or by < 0:
            raise Mixed
        end = min(end, x.shape[rows.axis])
        if (start, end, by) != (0, x.shape[rows.axis], 1):
            rows = rows.counted("sliced", start, end, by)
    return rows


def _split(step: Step) -> Rows:
    """In pieces along another axis."""
    x, rows = step.main()
    if step.axis(x.rank) == rows.axis and len(step.node.output) > 1:
        raise Mixed
    return rows


def _concat(step: Step) -> Rows:
    """Along another axis, of operands that all have the same rows."""
    found = set(step.rows)
    rows = found.pop()
    if found or rows is None:
        raise Mixed
    if step.axis(len(step.shape)) == rows.axis and len(step.values) > 1:
        raise Mixed
    return rows


def _tile(step: Step) -> Rows:
    _, rows = step.main()
    if (step.integers(1, "repeats") or [])[rows.axis] != 1:
        raise Mixed
    return rows


def _expand(step: Step) -> Rows:
    """Along other axes: one row that is found would be as many as are asked for."""
    x, rows = step.main()
    wanted = step.integers(1, "shape") or []
    behind = x.rank - rows.axis  # of axes, with that of the rows
    if behind <= len(wanted) and wanted[-behind] != 1:
        raise Mixed
    return replace(rows, axis=len(step.shape) - behind)


# ---- indices


def _from_the_front(step: Step, index: Value) -> None:
    """Mixed, but for indices that are known, and are not counted from behind the last row."""
    if not step.build.is_constant(index.tensor) or step.build.array(index).min() < 0:
        raise Mixed


def _gather(step: Step) -> Rows | None:
    x, index = step.input(0), step.input(1)
    axis, (rows, named) = step.axis(x.rank), step.rows
    if named is not None:
        if rows is not None:
            raise Mixed
        return replace(named, axis=axis + named.axis)
    assert rows is not None
    if rows.axis == axis:
        return _from_the_front(step, index)
    return rows if rows.axis < axis else replace(rows, axis=rows.axis + index.rank - 1)


def _gather_elements(step: Step) -> Rows | None:
    """One element for each index: the result has the rows of the indices."""
    rows, named = step.rows
    along = step.axis(step.input(0).rank)
    if named is None or (rows is not None and (rows != named or rows.axis == along)):
        raise Mixed
    return named


def _gather_nd(step: Step) -> Rows | None:
    index = step.input(1)
    batch, (rows, named) = step.attribute("batch_dims"), step.rows
    held = batch + index.shape[-1]  # axes of x that indices name
    if named is not None:
        if rows is not None or not batch <= named.axis < index.rank - 1:
            raise Mixed
        return named
    assert rows is not None
    if rows.axis < batch:
        raise Mixed
    if rows.axis < held:
        return _from_the_front(step, index)
    return replace(rows, axis=index.rank - 1 + rows.axis - held)


RULES: dict[str, Callable[[Step], Rows | None]] = {
    **dict.fromkeys((*PLAIN, *BINARY), _elementwise),
    **dict.fromkeys(("Cast", "Clip", "Max", "Min", "Mod", "Not", "Relu", "Where"), _elementwise),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantized),
    "CastLike": _cast_like,
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Identity": _identity,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
