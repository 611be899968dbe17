# SPDX-License-Identifier: Apache-2.0
"""What a gradient rule is given, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmcc.errors import Where as Origin
from mmcc.ir.graph import Node
from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.elementwise import Binary, Unary, Where
from mmcc.ops.movement import Expand, Reshape
from mmcc.ops.reduce import Reduce
from mmcc.passes.draft import Draft


def reshaped(draft: Draft, name: str, shape: Shape, where: tuple[Origin, ...]) -> str:
    """The same elements in another shape."""
    same = draft.tensors[name].shape == shape
    return name if same else draft.add(Reshape(shape), (name,), f"{name}_reshaped", where)


def repeated(draft: Draft, g: str, shape: Shape, where: tuple[Origin, ...]) -> str:
    """A gradient repeated to the shape of what it is the gradient of."""
    own = draft.tensors[g].shape
    if own == shape:
        return g
    g = reshaped(draft, g, (1,) * (len(shape) - len(own)) + own, where)
    full = draft.tensors[g].shape == shape
    return g if full else draft.add(Expand(shape), (g,), f"{g}_repeated", where)


@dataclass(frozen=True, slots=True)
class Backward:
    """A node whose result's gradient `g` is known, and the draft into which its operands' are written.

    Of a node of several results that is the first one's; the others are indices, which have none.
    `g` may have fewer axes or axes of extent 1 where the gradient is the same along them: `full` repeats it.
    `wanted` are the operands whose gradient somebody needs.
    """

    draft: Draft
    node: Node
    g: str
    wanted: frozenset[int]

    def add(self, op: Op, *inputs: str) -> str:
        """A new node; the name of its result."""
        return self.draft.add(op, inputs, f"{self.node.outputs[0]}_gradient", self.node.where)

    def add_all(self, op: Op, *inputs: str) -> tuple[str, ...]:
        """A new node of an op with any number of results; their names."""
        return self.draft.add_all(op, inputs, f"{self.node.outputs[0]}_gradient", self.node.where)

    def shape(self, name: str) -> Shape:
        """Of a tensor of the forward pass or of a gradient."""
        return self.draft.tensors[self.draft.now(name)].shape

    def number(self, value: float) -> str:
        """A constant [1]."""
        return self.draft.constant(np.array([value], np.float32), "factor")

    def binary(self, function: str, a: str, b: str) -> str:
        """A function of two tensors, element by element, with broadcasting."""
        return self.add(Binary(function), a, b)

    def unary(self, function: str, a: str, parameters: tuple[float, ...] = ()) -> str:
        """A function of one tensor, element by element."""
        return self.add(Unary(function, parameters), a)

    def clamped(self, a: str, low: float, high: float) -> str:
        """A tensor within limits."""
        return self.unary("clamp", a, (low, high))

    def zeros(self, shape: Shape) -> str:
        """A tensor of this shape, all 0."""
        return self.full(self.number(0.0), shape)

    def chosen(self, condition: str, a: str, b: str) -> str:
        """a where the condition is true, else b."""
        return self.add(Where(), condition, a, b)

    def scaled(self, a: str, factor: float) -> str:
        """A tensor times a number."""
        return a if factor == 1 else self.binary("mul", a, self.number(factor))

    def reshaped(self, name: str, shape: Shape) -> str:
        """The same elements in another shape."""
        return reshaped(self.draft, name, shape, self.node.where)

    def full(self, g: str, shape: Shape) -> str:
        """A gradient repeated to the shape of what it is the gradient of."""
        return repeated(self.draft, g, shape, self.node.where)

    @property
    def whole(self) -> str:
        """The gradient of the node's result in its shape."""
        return self.full(self.g, self.shape(self.node.outputs[0]))

    def summed(self, g: str, shape: Shape) -> str:
        """The gradient of an operand of this shape, which was repeated to the shape of `g`."""
        own = self.shape(g)
        padded = (1,) * (len(own) - len(shape)) + shape
        axes = tuple(k for k, (n, m) in enumerate(zip(padded, own, strict=True)) if n == 1 and m > 1)
        summed = self.add(Reduce("sum", axes), g) if axes else g
        return self.reshaped(summed, shape)


Rule = Callable[[Any, Backward], Mapping[int, str]]
RULES: dict[type, Rule] = {}


def gradient(*ops: type) -> Callable[[Rule], Rule]:
    """Register the rule of these op classes: a function of the op and a `Backward`.

    It returns the gradients of operands by their number. Those that are missing are 0.
    """

    def register(function: Rule) -> Rule:
        for op in ops:
            assert op not in RULES, f"{op.__name__} has two gradients"
            RULES[op] = function
        return function

    return register
