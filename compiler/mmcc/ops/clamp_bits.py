# SPDX-License-Identifier: Apache-2.0
"""What the gradient of a clamp needs of the clamp's result, in a bit an element."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Access, Loop, Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import COMPUTES, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.broadcasting import broadcast_nest, broadcast_shape

Array = NDArray[Any]
BITS = 8  # in an element of the result


def packed(shape: Shape) -> Shape:
    """The shape of the bits of a tensor: those of neighbouring channels are in one element."""
    return *shape[:-1], -(-shape[-1] // BITS)


@op
@dataclass(frozen=True, slots=True)
class ClampBits:
    """Whether each element of y [.., C] lies between `above` and `below`, and not on them: u8 [.., C / 8].

    The lowest bit of an element is that of the first of its channels; bits that belong to none are 0.
    """

    above: float
    below: float

    kernel: ClassVar[str] = "clamp_bits"
    traits = OpTraits(rides=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (y,) = inputs
        if not y.shape:
            raise ShapeError("bits of a number")
        return ((packed(y.shape), ElementType.U8),)

    def nest(self, *inputs: Shape) -> Nest:
        (y,) = inputs
        loops = tuple(Loop(f"i{k}", extent) for k, extent in enumerate(packed(y)))
        index = tuple(loop.i for loop in loops)
        return Nest(loops, (Access(0, y, (*index[:-1], None)),), (Access(0, packed(y), index),))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (y,) = inputs
        inside = (y > np.float32(self.above)) & (y < np.float32(self.below))
        return (np.packbits(inside, axis=-1, bitorder="little"),)

    def __str__(self) -> str:
        return f"clamp_bits[{self.above:g}, {self.below:g}]"


@op
@dataclass(frozen=True, slots=True)
class BitsGradient:
    """g where a bit is set, else 0; float [.., `channels`].

    Operands: g, which may be repeated to the shape of the result as ONNX repeats operands, and `ClampBits`.
    """

    channels: int

    kernel: ClassVar[str] = "bits_gradient"
    traits = COMPUTES

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        g, bits = inputs
        shape = self._shape(bits.shape)
        if packed(shape) != bits.shape or broadcast_shape(g.shape, shape) != shape:
            raise ShapeError(
                f"gradient {list(g.shape)} and bits {list(bits.shape)} of {self.channels} channels"
            )
        return ((shape, g.dtype),)

    def _shape(self, bits: Shape) -> Shape:
        return *bits[:-1], self.channels

    def nest(self, *inputs: Shape) -> Nest:
        g, bits = inputs
        nest = broadcast_nest(g, self._shape(bits))
        own = (*nest.reads[1].index[:-1], nest.loops[-1].i // BITS)
        return replace(nest, reads=(nest.reads[0], Access(1, bits, own)))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        g, bits = inputs
        inside = np.unpackbits(bits, axis=-1, count=self.channels, bitorder="little")
        return ((g * inside).astype(g.dtype),)

    def __str__(self) -> str:
        return "bits_gradient"
