# SPDX-License-Identifier: Apache-2.0
"""Gradients of functions of one operand, element by element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf, pi, sqrt
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.nest import Nest
from mmcc.ir.op import Result, ShapeError
from mmcc.ir.traits import ELEMENTWISE
from mmcc.ir.types import Shape, Tensor
from mmcc.ops import op
from mmcc.ops.broadcasting import broadcast_nest, broadcast_shape
from mmcc.ops.elementwise import UNARY

Array = NDArray[Any]


def _sigmoid(x: Array) -> Array:
    return UNARY["sigmoid"][1](x)


def _normal(x: Array) -> Array:
    """The distribution function of the normal distribution."""
    return 0.5 * (1 + np.vectorize(erf, otypes=[np.float64])(x / sqrt(2)))


def _gelu_tanh(x: Array) -> Array:
    s = _sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x**3))
    return s + x * s * (1 - s) * 2 * sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x)


def _mish(x: Array) -> Array:
    t = np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))
    return t + x * _sigmoid(x) * (1 - t * t)


_RESULT: dict[str, Callable[[Array], Array]] = {
    "exp": lambda y: y,
    "sqrt": lambda y: 0.5 / y,
    "reciprocal": lambda y: -y * y,
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
}
_RESULT_TWO: dict[str, Callable[[Array, float, float], Array]] = {
    "clamp": lambda y, low, high: np.where((y > low) & (y < high), 1.0, 0.0),
}
_PLAIN: dict[str, Callable[[Array], Array]] = {
    "abs": np.sign,
    "tan": lambda x: 1 / np.cos(x) ** 2,
    "atan": lambda x: 1 / (1 + x * x),
    "asin": lambda x: 1 / np.sqrt((1 - x) * (1 + x)),
    "acos": lambda x: -1 / np.sqrt((1 - x) * (1 + x)),
    "sinh": np.cosh,
    "cosh": np.sinh,
    "asinh": lambda x: 1 / np.sqrt(x * x + 1),
    "acosh": lambda x: 1 / np.sqrt((x - 1) * (x + 1)),
    "atanh": lambda x: 1 / ((1 - x) * (1 + x)),
    "log": np.reciprocal,
    "erf": lambda x: 2 / sqrt(pi) * np.exp(-x * x),
    "sin": np.cos,
    "cos": lambda x: -np.sin(x),
    "softplus": _sigmoid,
    "softsign": lambda x: 1 / (1 + np.abs(x)) ** 2,
    "gelu": lambda x: _normal(x) + x * np.exp(-0.5 * x * x) / sqrt(2 * pi),
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),
    "mish": _mish,
    "hard_swish": lambda x: np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5)),
}
_WITH_ONE: dict[str, Callable[[Array, float], Array]] = {
    "leaky_relu": lambda x, slope: np.where(x >= 0, 1.0, slope),
    "thresholded_relu": lambda x, a: np.where(x > a, 1.0, 0.0),
    "elu": lambda x, a: np.where(x >= 0, 1.0, a * np.exp(np.minimum(x, 0))),
    "celu": lambda x, a: np.where(x >= 0, 1.0, np.exp(np.minimum(x, 0) / a)),
}
_WITH_TWO: dict[str, Callable[[Array, float, float], Array]] = {
    "shrink": lambda x, _bias, width: np.where(np.abs(x) > width, 1.0, 0.0),
    "hard_sigmoid": lambda x, a, b: np.where((a * x + b > 0) & (a * x + b < 1), a, 0.0),
    "selu": lambda x, a, gamma: gamma * np.where(x > 0, 1.0, a * np.exp(np.minimum(x, 0))),
}
# derivatives at y, the function's result: what is kept for them is what the next layer reads anyway
AT_RESULT: dict[str, Callable[..., Array]] = {**_RESULT, **_RESULT_TWO}
# and those at the operand
DERIVATIVES: dict[str, Callable[..., Array]] = {**AT_RESULT, **_PLAIN, **_WITH_ONE, **_WITH_TWO}


@op
@dataclass(frozen=True, slots=True)
class UnaryGradient:
    """dx = g * derivative of the function at v, element by element; see DERIVATIVES.

    Operands: g, the gradient of the function's result, which may be repeated to the shape of v as ONNX
    repeats operands; and v, the function's result if it is in AT_RESULT, else its operand. Where a derivative
    has a step it is that of the side on which nothing changes: 0 at the ends of a clamp.
    """

    function: str
    parameters: tuple[float, ...] = ()

    kernel: ClassVar[str] = "unary_gradient"
    traits = ELEMENTWISE

    def results(self, *inputs: Tensor) -> tuple[Result, ...]:
        g, v = inputs
        if broadcast_shape(g.shape, v.shape) != v.shape:
            raise ShapeError(f"gradient {list(g.shape)} of {self.function} of {list(v.shape)}")
        return ((v.shape, v.dtype),)

    def nest(self, *inputs: Shape) -> Nest:
        return broadcast_nest(*inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        g, v = (x.astype(np.float64) for x in inputs)
        slope = DERIVATIVES[self.function](v, *(float(np.float32(p)) for p in self.parameters))
        return ((g * slope).astype(inputs[1].dtype),)

    def __str__(self) -> str:
        return f"{self.function}_gradient{list(self.parameters) if self.parameters else ''}"
