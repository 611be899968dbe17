# SPDX-License-Identifier: Apache-2.0
"""What passes and planner ask of an op that its loops do not say. Each op states it once, in `traits`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Moves(Enum):
    """How an op that changes no element finds those of its first result among its operands'."""

    BY_PLACE = auto()  # by their places, whatever they are: so any function may be applied before or after
    BY_ORDER = auto()  # by how they compare: so any increasing function may be applied before or after


class Alias(Enum):
    """Which tensor may lie in the bytes of which, so that an op that moves by place needs no code."""

    SAME = auto()  # the result has the operand's bytes in their order: either may lie in the other
    PART = auto()  # the result may lie in the operand, where the nest's access says
    JOIN = auto()  # the operands may lie in the result, where the nest's accesses say


@dataclass(frozen=True, slots=True)
class OpTraits:
    """The defaults are those of an op that computes its elements from several others, in its operands' type.

    `moves`: elements are moved and not changed. A Pad has a value of its own besides, and a MaxPool the least
    one where a window lies in the padding.
    `chooser`: elements of the other operands are moved, unchanged; the values of this one say which.
    `permutes`: the result has every element of the op's operand, once.
    `alias`: the planner may make the op a view.
    `elementwise`: an element depends on the elements at its own place, by the same function everywhere.
    `broadcasts`: operands are repeated to the shape of the result, as ONNX does it; none is a table.
    `saturates`: the result is integers between the op's `low` and `high`.
    `converts`: the op's work is to go between integers and floats, so floats are no sign of a model that
    computes in float: Quantize, Dequantize, integer sums that are scaled to float.
    `normalizes`: the result is its first operand's lines (its last axis) over a power of sums of their
    squares: a sum that is too large for a float does not show in it.
    `rides`: what it makes is for later, so it may take in rows beside others who read them.
    `tables`: its constants are made by the compiler, and are none of the model's.
    `paged`: what it makes is in slow memory, which callbacks of the caller's reach and nobody else.
    `at_once`: it runs in one call, which may write any result while it still reads any operand, and finds
    all of them dense.
    """

    moves: Moves | None = None
    chooser: int | None = None
    permutes: bool = False
    alias: Alias | None = None
    elementwise: bool = False
    broadcasts: bool = False
    saturates: bool = False
    converts: bool = False
    tables: bool = False
    normalizes: bool = False
    rides: bool = False
    paged: bool = False
    at_once: bool = False


COMPUTES = OpTraits()
ELEMENTWISE = OpTraits(elementwise=True, broadcasts=True)
