# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators of any type: functions of one, two and three operands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf, sqrt
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.nest import Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import ELEMENTWISE, OpTraits
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.broadcasting import broadcast_nest, broadcast_shape

Array = NDArray[Any]


def _sigmoid(x: Array) -> Array:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_erf: Callable[[Array], Array] = np.vectorize(erf, otypes=[np.float64])

# what each function means on float64; the result is rounded to float32
_PLAIN: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "sign": np.sign,
    "erf": _erf,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "atan": np.arctan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "sigmoid": _sigmoid,
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "not": np.logical_not,
    "bit_not": np.invert,
}
_WITH_ONE: dict[str, Callable[[Array, float], Array]] = {
    "leaky_relu": lambda x, slope: np.where(x >= 0, x, slope * x),
    "elu": lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "celu": lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)),
    "thresholded_relu": lambda x, alpha: np.where(x > alpha, x, 0),
}
_WITH_TWO: dict[str, Callable[[Array, float, float], Array]] = {
    "clamp": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    # of what is not a number the lower bound, as QuantizeLinear has it
    "saturate": lambda x, low, high: np.where(x > low, np.minimum(x, high), low),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "selu": lambda x, alpha, gamma: gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "shrink": lambda x, bias, lambd: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)),
}
# name -> (number of parameters, meaning)
UNARY: dict[str, tuple[int, Callable[..., Array]]] = {
    **{name: (0, function) for name, function in _PLAIN.items()},
    **{name: (1, function) for name, function in _WITH_ONE.items()},
    **{name: (2, function) for name, function in _WITH_TWO.items()},
}


@op
@dataclass(frozen=True, slots=True)
class Unary:
    """y = function(x; parameters), element by element; see UNARY.

    Of integers only abs, neg, sign, clamp and not, and bit_not, which is of nothing else.
    """

    function: str
    parameters: tuple[float, ...] = ()

    kernel: ClassVar[str] = "unary"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, inputs[0].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        count, function = UNARY[self.function]
        assert len(self.parameters) == count
        wide = x.astype(np.float64) if x.dtype.kind == "f" else x
        return (function(wide, *(float(np.float32(p)) for p in self.parameters)).astype(x.dtype),)

    def __str__(self) -> str:
        return f"{self.function}{list(self.parameters) if self.parameters else ''}"


def _integer_divide(a: Array, b: Array) -> Array:
    """C's division, which is ONNX's: towards zero; by zero gives 0 rather than a trap.

    The least number divided by -1 is itself: its counterpart is one more than the type holds, and wraps.
    """
    signed = a.dtype.kind == "i"
    odd = (b == 0) | (b == -1) if signed else b == 0
    safe = np.where(odd, 1, b).astype(a.dtype)
    below = a // safe
    up = ((below * safe != a) & ((a < 0) != (safe < 0))).astype(a.dtype)  # numpy's division is the floor
    return np.where(odd, np.where(b == 0, 0, np.negative(a)), below + up).astype(a.dtype)


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": lambda a, b: a / b if a.dtype.kind == "f" else _integer_divide(a, b),
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "mod": np.mod,
    "fmod": np.fmod,
    "prelu": lambda x, slope: np.where(x >= 0, x, x * slope),
    "equal": np.equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "bit_and": np.bitwise_and,
    "bit_or": np.bitwise_or,
    "bit_xor": np.bitwise_xor,
    "shift_left": np.left_shift,
    "shift_right": np.right_shift,
}
# of integers only; shifts by the type's width and more leave copies of the sign, or zeros
OF_BITS = frozenset(("bit_and", "bit_or", "bit_xor", "shift_left", "shift_right"))
COMPARISONS = frozenset(("equal", "greater", "greater_equal", "less", "less_equal"))


@op
@dataclass(frozen=True, slots=True)
class Binary:
    """y = function(a, b) with broadcasting; see BINARY. One type for both; comparisons give bool."""

    function: str

    kernel: ClassVar[str] = "binary"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        a, b = inputs
        if a.dtype != b.dtype:
            raise ShapeError(f"{self.function} of {a.dtype.name} and {b.dtype.name}")
        if self.function in OF_BITS and not a.dtype.is_integer:
            raise ShapeError(f"{self.function} of {a.dtype.name}")
        return (
            (
                broadcast_shape(a.shape, b.shape),
                ElementType.BOOL if self.function in COMPARISONS else a.dtype,
            ),
        )

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        a, b = inputs
        y = bool if self.function in COMPARISONS else a.dtype
        return (BINARY[self.function](a, b).astype(y),)

    def __str__(self) -> str:
        return self.function


@op
@dataclass(frozen=True, slots=True)
class Where:
    """y = a where condition, else b; the condition is bool."""

    kernel: ClassVar[str] = "where"
    traits = OpTraits(chooser=0, elementwise=True, broadcasts=True)

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((broadcast_shape(*(x.shape for x in inputs)), inputs[1].dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.where(*inputs),)

    def __str__(self) -> str:
        return "where"


@op
@dataclass(frozen=True, slots=True)
class Cast:
    """Convert to another element type, as ONNX says.

    Float to float rounds to nearest, ties to even; what is too large becomes infinity, or in floats of 8 bits
    the largest value if the op `saturates`, else what is not a number where they have no infinity. Float to
    integer truncates and saturates, NaN gives 0 (ONNX leaves that undefined). Integers keep their low bits.
    Bool is x != 0.
    """

    dtype: ElementType
    saturates: bool = True

    kernel: ClassVar[str] = "cast"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        return ((inputs[0].shape, self.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        if x.dtype.kind == "f" and self.dtype.is_integer:
            return (_saturated(np.trunc(np.nan_to_num(x.astype(np.float64))), self.dtype),)
        source = ElementType.of(x)
        if source.per_cell > 1:  # numpy does not know the way from one of these types to another
            x = x.astype(np.int8)
        if source.code is None and self.dtype.code is None:
            return (x.astype(self.dtype.numpy),)
        return (self._by_float(x.astype(np.float32)),)

    def _by_float(self, x: Array) -> Array:
        """Between narrow floats and all else there is float32."""
        if self.dtype.code is None:
            return self.reference(x)[0]
        if self.dtype.bits == 8 and self.saturates:
            most = float(np.array(self.dtype.code.most, np.uint8).view(self.dtype.numpy).astype(np.float32))
            x = np.clip(x, -most, most)  # NaN stays
        made = x.astype(self.dtype.numpy)
        if self.dtype == ElementType.F4E2M1:  # which has no NaN
            made = np.where(np.isnan(x), np.zeros(1, made.dtype), made)
        return made

    def __str__(self) -> str:
        return f"cast<{self.dtype.name}>"


@op
@dataclass(frozen=True, slots=True)
class BitCast:
    """The bits of each element as another type of the same size."""

    dtype: ElementType

    kernel: ClassVar[str] = "strided_copy"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        (x,) = inputs
        if x.dtype.bits != self.dtype.bits:
            raise ShapeError(f"bits of {x.dtype.name} as {self.dtype.name}")
        return ((x.shape, self.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0].view(self.dtype.numpy),)

    def __str__(self) -> str:
        return f"bit_cast<{self.dtype.name}>"


def _saturated(whole: Array, dtype: ElementType) -> Array:
    """Whole numbers in double precision as integers. 2^63 - 1 is no double: from 2^63 on is too large."""
    large, small = whole >= float(dtype.most), whole <= float(dtype.least)
    made = np.where(large | small, 0.0, whole).astype(dtype.numpy)
    made[large], made[small] = dtype.most, dtype.least
    return made
