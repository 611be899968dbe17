# SPDX-License-Identifier: Apache-2.0
"""One file an operator family. An op is a frozen dataclass of its attributes that satisfies `Op`.

These are mmcc's own operators, channels-last and without a batch axis; `frontend/` maps ONNX to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcc.ir.graph import DType, Shape, Tensor
    from mmcc.ir.nest import Nest


class Op(Protocol):
    """What the compiler asks of an op. Implement it structurally; do not inherit from it."""

    kernel: ClassVar[str]  # stem of the template under templates/kernels/<variant>/

    def result(self, *inputs: Tensor) -> tuple[Shape, DType]:
        """Shape and type of the output; raise ShapeError on operands that do not fit together."""
        ...

    def nest(self, *inputs: Shape) -> Nest:
        """Loops and access functions."""
        ...

    def reference(self, *inputs: NDArray[Any]) -> NDArray[Any]:
        """What the op means, in plain numpy; tests hold the generated C to it."""
        ...


class ShapeError(ValueError):
    """Operands that do not fit together; the frontend adds where in the model."""


T = TypeVar("T")
OPS: dict[str, type[Any]] = {}


def op(cls: type[T]) -> type[T]:
    """Register an op class, so that the tests that hold for every op find it."""
    assert cls.__name__ not in OPS, f"{cls.__name__} is registered twice"
    OPS[cls.__name__] = cls
    return cls
