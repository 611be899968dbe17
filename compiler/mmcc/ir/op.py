# SPDX-License-Identifier: Apache-2.0
"""What the compiler asks of an operator."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Nest
from mmcc.ir.traits import OpTraits
from mmcc.ir.types import Shape, Tensor

Result = tuple[Shape, ElementType]


class Op(Protocol):
    """What the compiler asks of an op. Implement it structurally; do not inherit from it."""

    kernel: ClassVar[str]  # stem of the template under templates/kernels/<variant>/

    @property
    def traits(self) -> OpTraits:
        """What passes and planner may do with the op; of most ops one value for the whole class."""
        ...

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        """Shape and type of each result; raise ShapeError on operands that do not fit together."""
        ...

    def nest(self, *inputs: Shape) -> Nest:
        """Loops and access functions."""
        ...

    def reference(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """What the op means, in plain numpy, result by result; tests hold the generated C to it."""
        ...


class ShapeError(ValueError):
    """Operands that do not fit together; the frontend adds where in the model."""
