# SPDX-License-Identifier: Apache-2.0
"""Gradients of pools, reductions, and Softmax."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from mmcc.ops.cumulative import Cumulative
from mmcc.ops.movement import Transpose
from mmcc.ops.pool import AveragePool, MaxPool
from mmcc.ops.pool_gradient import AveragePoolGradient, MaxPoolGradient
from mmcc.ops.reduce import ArgMax, Reduce
from mmcc.ops.softmax import Softmax
from mmcc.training.gradients.registry import Backward, gradient
from mmcc.training.gradients.unknown import no_gradient


@gradient(MaxPool)
def max_pool(op: MaxPool, call: Backward) -> dict[int, str]:
    """The pool's input tells which element was the largest."""
    return {0: call.add(MaxPoolGradient(op.window), call.whole, call.node.inputs[0])}


@gradient(AveragePool)
def average_pool(op: AveragePool, call: Backward) -> dict[int, str]:
    """Of a window over all of x the gradient is the same everywhere."""
    rows, cols = call.shape(call.node.inputs[0])[:2]
    if op.window.kernel == (rows, cols) and not any(op.window.pads):
        return {0: call.scaled(call.g, 1 / (rows * cols))}
    return {0: call.add(AveragePoolGradient(op.window, (rows, cols), op.counted), call.whole)}


def _extreme(call: Backward, x: str, y: str, axes: tuple[int, ...]) -> str:
    """Equal elements share the gradient."""
    there = call.binary("equal", x, y)
    ones = call.chosen(there, call.number(1.0), call.number(0.0))
    share = call.binary("div", call.whole, call.add(Reduce("sum", axes), ones))
    return call.binary("mul", ones, share)


def _length(call: Backward, x: str, y: str, _axes: tuple[int, ...]) -> str:
    """x / y, and 0 where all of x is 0: of the slopes there the one to no side."""
    there = call.binary("greater", y, call.number(0.0))
    share = call.binary("div", call.whole, y)
    return call.binary("mul", x, call.chosen(there, share, call.number(0.0)))


def _others(call: Backward, x: str, _y: str, axes: tuple[int, ...]) -> str:
    """The product of all others, those before and those behind, so that an element may be 0."""
    shape = call.shape(x)
    order = (*(k for k in range(len(shape)) if k not in axes), *axes)
    flat = (*(shape[k] for k in order[: len(shape) - len(axes)]), prod(shape[k] for k in axes))
    turned = call.reshaped(call.add(Transpose(order), x), flat)
    ends = (call.add(Cumulative("prod", exclusive=True, reverse=way), turned) for way in (False, True))
    both = call.reshaped(call.binary("mul", *ends), tuple(shape[k] for k in order))
    back = tuple(order.index(k) for k in range(len(shape)))
    return call.binary("mul", call.add(Transpose(back), both), call.g)


# the gradient of x, of y = function(x) over some axes: the same along them, or going with x
REDUCTIONS: dict[str, Callable[[Backward, str, str, tuple[int, ...]], str]] = {
    "sum": lambda call, x, y, axes: call.g,
    "mean": lambda call, x, y, axes: call.scaled(call.g, 1 / prod(call.shape(x)[k] for k in axes)),
    "sum_square": lambda call, x, y, axes: call.binary("mul", call.scaled(call.g, 2.0), x),
    "l1": lambda call, x, y, axes: call.binary("mul", call.unary("sign", x), call.g),
    "l2": _length,
    "prod": _others,
    "log_sum": lambda call, x, y, axes: call.binary("div", call.whole, call.unary("exp", y)),
    "log_sum_exp": lambda call, x, y, axes: call.binary(
        "mul", call.unary("exp", call.binary("sub", x, y)), call.g
    ),
    "max": _extreme,
    "min": _extreme,
}


@gradient(Reduce)
def reduce(op: Reduce, call: Backward) -> dict[int, str]:
    """See REDUCTIONS."""
    if op.function not in REDUCTIONS:
        raise no_gradient(call.node)
    return {0: REDUCTIONS[op.function](call, call.node.inputs[0], call.node.output, op.axes)}


@gradient(ArgMax)
def arg_max(_op: ArgMax, _call: Backward) -> dict[int, str]:
    """An index does not change with what it is found in, but in steps."""
    return {}


@gradient(Softmax)
def softmax(op: Softmax, call: Backward) -> dict[int, str]:
    """y (g - sum of g y); of the logarithm g - exp(y) (sum of g)."""
    y, g = call.node.output, call.whole
    last = (len(call.shape(y)) - 1,)
    if op.log:
        total = call.add(Reduce("sum", last), g)
        return {0: call.binary("sub", g, call.binary("mul", call.unary("exp", y), total))}
    total = call.add(Reduce("sum", last), call.binary("mul", g, y))
    return {0: call.binary("mul", y, call.binary("sub", g, total))}
