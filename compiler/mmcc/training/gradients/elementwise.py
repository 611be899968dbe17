# SPDX-License-Identifier: Apache-2.0
"""Gradients of functions of one, two and three operands, element by element."""

from __future__ import annotations

from collections.abc import Callable

from mmcc.ops.elementwise import COMPARISONS, Binary, Unary, Where
from mmcc.ops.elementwise_gradient import AT_RESULT, DERIVATIVES, UnaryGradient
from mmcc.training.gradients.registry import Backward, gradient
from mmcc.training.gradients.unknown import no_gradient

FLAT = ("floor", "ceil", "round", "sign", "not")  # the same on both sides of nearly every place
LOGICAL = ("and", "or", "xor")


@gradient(Unary)
def unary(op: Unary, call: Backward) -> dict[int, str]:
    """The derivative at the result, where that tells, or at the operand."""
    if op.function in FLAT:
        return {}
    if op.function == "neg":
        return {0: call.unary("neg", call.g)}
    if op.function not in DERIVATIVES:
        raise no_gradient(call.node)
    at = call.node.output if op.function in AT_RESULT else call.node.inputs[0]
    return {0: call.add(UnaryGradient(op.function, op.parameters), call.g, at)}


Pair = tuple[Callable[[Backward], str], Callable[[Backward], str]]


def _times(k: int) -> Callable[[Backward], str]:
    return lambda call: call.binary("mul", call.g, call.node.inputs[k])


def _divided(call: Backward) -> str:
    return call.binary("div", call.g, call.node.inputs[1])


def _divisor(call: Backward) -> str:
    """-g y / b: of the quotient y = a / b."""
    share = call.binary("div", call.node.output, call.node.inputs[1])
    return call.unary("neg", call.binary("mul", call.g, share))


def _chosen(comparison: str, k: int) -> Callable[[Backward], str]:
    """g where operand k is the one that was taken; of equal ones, the first."""

    def rule(call: Backward) -> str:
        a, b = call.node.inputs
        first = call.binary(comparison, a, b)
        none, g = call.number(0.0), call.g
        return call.chosen(first, *((g, none) if k == 0 else (none, g)))

    return rule


def _power_base(call: Backward) -> str:
    """g b a^(b-1)."""
    a, b = call.node.inputs
    less = call.binary("pow", a, call.binary("sub", b, call.number(1.0)))
    return call.binary("mul", call.g, call.binary("mul", b, less))


def _power_exponent(call: Backward) -> str:
    """g y log a."""
    log = call.unary("log", call.node.inputs[0])
    return call.binary("mul", call.g, call.binary("mul", call.node.output, log))


def _modulus(quotient: Callable[[Backward, str], str]) -> Callable[[Backward], str]:
    """-g times the whole number of times that b was taken from a."""

    def rule(call: Backward) -> str:
        times = quotient(call, call.binary("div", *call.node.inputs))
        return call.unary("neg", call.binary("mul", call.g, times))

    return rule


def _towards_zero(call: Backward, a: str) -> str:
    return call.binary("mul", call.unary("sign", a), call.unary("floor", call.unary("abs", a)))


def _prelu(k: int) -> Callable[[Backward], str]:
    def rule(call: Backward) -> str:
        x, slope = call.node.inputs
        positive = call.binary("greater_equal", x, call.number(0.0))
        below = call.binary("mul", call.g, (slope, x)[k])
        return call.chosen(positive, call.g if k == 0 else call.number(0.0), below)

    return rule


PAIRS: dict[str, Pair] = {
    "add": (lambda call: call.g, lambda call: call.g),
    "sub": (lambda call: call.g, lambda call: call.unary("neg", call.g)),
    "mul": (_times(1), _times(0)),
    "div": (_divided, _divisor),
    "max": (_chosen("greater_equal", 0), _chosen("greater_equal", 1)),
    "min": (_chosen("less_equal", 0), _chosen("less_equal", 1)),
    "pow": (_power_base, _power_exponent),
    "mod": (lambda call: call.g, _modulus(lambda call, a: call.unary("floor", a))),
    "fmod": (lambda call: call.g, _modulus(_towards_zero)),
    "prelu": (_prelu(0), _prelu(1)),
}


@gradient(Binary)
def binary(op: Binary, call: Backward) -> dict[int, str]:
    """Summed over the axes along which an operand was repeated. True or false change in steps only."""
    if op.function in COMPARISONS or op.function in LOGICAL:
        return {}
    if op.function not in PAIRS:
        raise no_gradient(call.node)
    whole = call.shape(call.node.output)
    found: dict[int, str] = {}
    for k in sorted(call.wanted):
        g, own = PAIRS[op.function][k](call), call.shape(call.node.inputs[k])
        found[k] = g if own == whole else call.summed(call.full(g, whole), own)
    return found


@gradient(Where)
def where(op: Where, call: Backward) -> dict[int, str]:
    """g goes to the operand that was taken."""
    condition, whole, none = call.node.inputs[0], call.shape(call.node.output), call.number(0.0)
    found: dict[int, str] = {}
    for k, chosen in ((1, (call.g, none)), (2, (none, call.g))):
        if k in call.wanted:
            g, own = call.add(op, condition, *chosen), call.shape(call.node.inputs[k])
            found[k] = g if own == whole else call.summed(call.full(g, whole), own)
    return found
