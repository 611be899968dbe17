# SPDX-License-Identifier: Apache-2.0
"""Where the axes of an ONNX value lie in the tensor that holds it: the algebra of lazy layouts.

While a model is imported, a Transpose, Reshape or Squeeze changes only this description. Elements move when
an operator asks for an order that memory does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from mmcc.ir.element_type import ElementType
from mmcc.ir.types import Shape, Tensor


@dataclass(frozen=True, slots=True)
class Value:
    """An ONNX value: a tensor, seen as an array of shape `view` in memory order.

    ONNX axis k is made of the axes `axes[k]` of the view, the major one first; none of them where an axis
    of extent 1 was dropped. Axes of the view that no ONNX axis names have extent 1.
    """

    tensor: str
    dtype: ElementType
    view: Shape
    axes: tuple[tuple[int, ...], ...]

    @property
    def shape(self) -> Shape:
        """The shape in ONNX."""
        return tuple(prod(self.view[v] for v in axis) for axis in self.axes)

    @property
    def rank(self) -> int:
        return len(self.axes)

    @property
    def size(self) -> int:
        return prod(self.view)

    @property
    def solid(self) -> list[int]:
        """The axes of the view that matter for the order of elements, in memory order."""
        return [v for v, extent in enumerate(self.view) if extent != 1]

    def atoms(self, axes: Sequence[int]) -> list[int]:
        """The solid axes of the view that make up some ONNX axes, in the order given."""
        return [v for k in axes for v in self.axes[k] if self.view[v] != 1]

    def transposed(self, perm: Sequence[int]) -> Value:
        return replace(self, axes=tuple(self.axes[k] for k in perm))

    def without(self, axes: Sequence[int]) -> Value:
        """Without some ONNX axes of extent 1."""
        return replace(self, axes=tuple(a for k, a in enumerate(self.axes) if k not in axes))

    def padded(self, rank: int) -> Value:
        """With axes of extent 1 in front, up to a rank, as numpy broadcasts."""
        return replace(self, axes=((),) * (rank - self.rank) + self.axes)

    def split(self, axis: int, factors: Sequence[int]) -> Value:
        """The value with one axis of the view split into several; no element moves."""
        count = len(factors)
        assert prod(factors) == self.view[axis]

        def renumber(v: int) -> tuple[int, ...]:
            return tuple(range(v, v + count)) if v == axis else (v + (count - 1) * (v > axis),)

        axes = tuple(tuple(w for v in old for w in renumber(v)) for old in self.axes)
        return replace(self, view=(*self.view[:axis], *factors, *self.view[axis + 1 :]), axes=axes)

    def refined(self, axis: int, factors: Sequence[int]) -> Value | None:
        """With ONNX axis `axis` factored as (or finer than) `factors`; None where that is impossible."""
        parts = refinement([self.view[v] for v in self.atoms([axis])], factors)
        if parts is None:
            return None
        value = self
        for v, pieces in sorted(zip(self.atoms([axis]), parts, strict=True), reverse=True):
            value = value.split(v, pieces) if len(pieces) > 1 else value
        return value

    def reshaped(self, shape: Shape) -> Value | None:
        """ONNX's Reshape where only the view must be split for it; None where elements must move."""
        atoms = self.atoms(range(self.rank))
        left = [self.view[v] for v in atoms]
        pieces: list[list[int]] = [[] for _ in atoms]
        made: list[list[tuple[int, int]]] = []  # for each new axis: which piece of which atom
        k = 0
        for extent in shape:
            mine: list[tuple[int, int]] = []
            while extent > 1:
                if k == len(atoms) or (left[k] % extent and extent % left[k]):
                    return None
                take = min(left[k], extent)
                mine.append((atoms[k], len(pieces[k])))
                pieces[k].append(take)
                left[k] //= take
                extent //= take
                k += left[k] == 1
            made.append(mine)
        if k < len(atoms):
            return None
        of_atom = dict(zip(atoms, pieces, strict=True))
        view: list[int] = []
        first: list[int] = []  # where each old axis of the view begins in the new one
        for v, extent in enumerate(self.view):
            first.append(len(view))
            view += of_atom.get(v, [extent])
        axes = tuple(tuple(first[v] + piece for v, piece in mine) for mine in made)
        return replace(self, view=tuple(view), axes=axes)

    def permuted_axes(self, order: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The axes once the view holds just the solid axes `order`, in that order."""
        place = {v: k for k, v in enumerate(order)}
        return tuple(tuple(place[v] for v in axis if v in place) for axis in self.axes)


Members = tuple[Value, ...]  # what a sequence of ONNX holds


class NoMembers(tuple[Value, ...]):
    """A sequence without tensors: those that come into it are of its `dtype`."""

    dtype: ElementType

    @staticmethod
    def of(dtype: ElementType) -> NoMembers:
        """That of a type."""
        found = NoMembers()
        found.dtype = dtype
        return found


def whole(tensor: Tensor, axes: Sequence[int | None]) -> Value:
    """The value of a tensor whose axis `axes[k]` is ONNX axis k."""
    return Value(
        tensor.name, tensor.dtype, tensor.shape, tuple(() if axis is None else (axis,) for axis in axes)
    )


def refinement(extents: Sequence[int], factors: Sequence[int]) -> list[list[int]] | None:
    """For each extent its pieces, so that products of pieces in order make up `factors` too."""
    pieces: list[list[int]] = [[] for _ in extents]
    left = list(extents)
    k = 0
    for factor in factors:
        while factor > 1:
            if k == len(left) or (left[k] % factor and factor % left[k]):
                return None
            take = min(left[k], factor)
            pieces[k].append(take)
            left[k] //= take
            factor //= take
            k += left[k] == 1
    return pieces if k == len(left) else None


def runs(shape: Shape, view: Shape) -> list[list[int]] | None:
    """For each axis of a tensor the axes of the view that split it; None where a view axis joins two."""
    result: list[list[int]] = []
    v = 0
    for extent in shape:
        mine: list[int] = []
        while extent != 1 and v < len(view):
            if view[v] == 0 or extent % view[v]:
                return None
            mine.append(v)
            extent //= view[v]
            v += 1
        if extent != 1:
            return None
        if not mine and v < len(view) and view[v] == 1:
            mine.append(v)
            v += 1
        result.append(mine)
    return result if all(extent == 1 for extent in view[v:]) else None
