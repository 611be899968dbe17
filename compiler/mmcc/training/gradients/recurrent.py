# SPDX-License-Identifier: Apache-2.0
"""Gradients of recurrent layers, through time.

What the gates made is made again: h of each step is there, so the sums of all gates are one product, row by
row, and what gates and functions make of a gradient is known for all steps (`RecurrentGradient` says how).
Rows are in the order in which the gradient passes, so that all of this goes along with it, a row at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf

import numpy as np

from mmcc.ops.conv import Conv
from mmcc.ops.conv_gradient import POINT, WeightGradient
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise_gradient import AT_RESULT, UnaryGradient
from mmcc.ops.movement import Concat, Pad, Slice
from mmcc.ops.recurrent import CellFunction, Recurrent
from mmcc.ops.recurrent_gradient import RecurrentGradient
from mmcc.ops.reduce import Reduce
from mmcc.training.gradients.registry import Backward, gradient
from mmcc.training.gradients.unknown import no_gradient


@gradient(Recurrent)
def recurrent(op: Recurrent, call: Backward) -> dict[int, str]:
    """Of x, the recurrent weights, biases and peepholes, and of the state before the first step."""
    if "lengths" in op.operands:
        raise no_gradient(call.node, "its sequences end at steps that are known only when it runs")
    if op.rounded:
        raise no_gradient(call.node, "it rounds h to bytes in each step")
    assert op.cells or op.cell != "lstm", "a step's LSTM shows its c"
    steps = _Steps(op, call)
    return {"rnn": _rnn, "gru": _gru, "lstm": _lstm}[op.cell](steps)


@dataclass(frozen=True, slots=True)
class _Gate:
    """A function's operand before it was clipped, after that, and its result."""

    sum: str
    clipped: str
    value: str
    function: CellFunction


@dataclass(frozen=True, slots=True)
class _Steps:
    """A layer whose rows are taken in the order in which the gradient passes; no result has another order."""

    op: Recurrent
    call: Backward

    @property
    def units(self) -> int:
        return self.call.shape(self.call.node.inputs[1])[1]

    def operand(self, name: str) -> str:
        """One of the operands that the op names; "" if it has none."""
        at = self.op.position(name)
        return "" if at is None else self.call.node.inputs[at]

    def turned(self, name: str) -> str:
        """Rows in the other order, unless the layer itself goes from the last to the first."""
        shape = self.call.shape(name)
        if self.op.backward or shape[0] == 1:
            return name
        starts = (shape[0] - 1, *(0 for _ in shape[1:]))
        return self.call.add(Slice(starts, (-1, *(1 for _ in shape[1:])), shape), name)

    def part(self, name: str, k: int, count: int = 1) -> str:
        """The k-th vector of units of each pixel, or several from there on."""
        shape, units = self.call.shape(name), self.units
        own = (*shape[:-1], count * units)
        starts = (*(0 for _ in shape[1:]), k * units)
        return name if own == shape else self.call.add(Slice(starts, (1,) * len(shape), own), name)

    def before(self, rows: str, begin: str) -> str:
        """What there was before each step: of turned rows the next, at the end the state `begin`, or 0."""
        shape = self.call.shape(rows)
        rest = (1, *(0 for _ in shape[1:]))
        left = (shape[0] - 1, *shape[1:])
        if left[0] == 0:
            return begin or self.call.draft.constant(np.zeros(shape, np.float32), "none")
        known = self.call.add(Slice(rest, (1,) * len(shape), left), rows)
        if begin:
            return self.call.add(Concat(0), known, begin)
        return self.call.add(Pad((0,) * len(shape), rest), known)

    def weights(self, k: int, count: int) -> str:
        """The rows of some gates in the recurrent weights."""
        r, units = self.call.node.inputs[1], self.units
        own = (count * units, units)
        whole = own == self.call.shape(r)
        return r if whole else self.call.add(Slice((k * units, 0), (1, 1), own), r)

    def products(self, h: str, weights: str) -> str:
        """Each row of h times recurrent weights [N, H]."""
        rows, units = self.call.shape(weights)
        none = self.call.draft.constant(np.zeros(rows, np.float32), "no_bias")
        if len(self.call.shape(h)) == 2:
            return self.call.add(Dense(), h, weights, none)
        return self.call.add(Conv(POINT), h, self.call.reshaped(weights, (rows, 1, 1, units)), none)

    def weight_gradient(self, h: str, d: str) -> str:
        """Of the weights [N, H] that h was multiplied by, where d is the gradient of the products."""
        if len(self.call.shape(h)) == 2:
            return self.call.add(WeightGradient(), h, d)
        made = self.call.add(WeightGradient(POINT), h, d)
        return self.call.reshaped(made, (self.call.shape(d)[-1], self.units))

    def summed(self, rows: str) -> str:
        """The sum of all pixels."""
        shape = self.call.shape(rows)
        axes = tuple(k for k, n in enumerate(shape[:-1]) if n > 1)
        return self.call.reshaped(self.call.add(Reduce("sum", axes), rows) if axes else rows, shape[-1:])

    def gate(self, total: str, function: CellFunction, *, clip: bool = True) -> _Gate:
        """The function of a sum, which is clipped first if all are."""
        limit = self.op.clip
        clipped = total if isinf(limit) or not clip else self.call.clamped(total, -limit, limit)
        return _Gate(total, clipped, self._value(function, clipped), function)

    def _value(self, function: CellFunction, v: str) -> str:
        match function:
            case CellFunction("affine", (alpha, beta)):
                return self.call.binary("add", self.call.scaled(v, alpha), self.call.number(beta))
            case CellFunction("scaled_tanh", (alpha, beta)):
                return self.call.scaled(self.call.unary("tanh", self.call.scaled(v, beta)), alpha)
            case _:
                return self.call.unary(function.name, v, function.parameters)

    def through(self, g: str, gate: _Gate) -> str:
        """g times the slope of a gate's function, and of its clip."""
        match gate.function:
            case CellFunction("affine", (alpha, _)):
                slope = self.call.scaled(self.call.full(g, self.call.shape(gate.value)), alpha)
            case CellFunction("scaled_tanh", (alpha, beta)):
                tanh = self.call.unary("tanh", self.call.scaled(gate.clipped, beta))
                slope = self.call.scaled(self.call.add(UnaryGradient("tanh"), g, tanh), alpha * beta)
            case CellFunction(name, parameters):
                at = gate.value if name in AT_RESULT else gate.clipped
                slope = self.call.add(UnaryGradient(name, parameters), g, at)
        if gate.clipped == gate.sum:
            return slope
        return self.call.add(UnaryGradient("clamp", (-self.op.clip, self.op.clip)), slope, gate.clipped)

    def back(self, slopes: list[str], g: str) -> tuple[str, dict[int, str]]:
        """The gradients of all sums, turned, and those of x and of the state that somebody asks for."""
        call, op = self.call, self.op
        begins = [op.position(name) for name in ("h", "c")]
        begun = any(at in call.wanted for at in begins)
        made = RecurrentGradient(op.cell, after=bool(self.operand("bias")), begun=begun)
        joined = slopes[0] if len(slopes) == 1 else call.add(Concat(len(call.shape(g)) - 1), *slopes)
        d, *left = call.add_all(made, joined, call.node.inputs[1], g)
        found = {at: name for at, name in zip(begins, left, strict=False) if at is not None}
        return d, found | {0: self.turned(d)}


def _rnn(steps: _Steps) -> dict[int, str]:
    """h = f(x + R h)."""
    call, op = steps.call, steps.op
    x, r = call.node.inputs[:2]
    h = steps.before(steps.turned(call.node.output), steps.operand("h"))
    total = call.binary("add", steps.turned(x), steps.products(h, r))
    gate = steps.gate(total, op.functions[0])
    d, found = steps.back([steps.through(call.number(1.0), gate)], steps.turned(call.whole))
    return found | ({1: steps.weight_gradient(h, d)} if 1 in call.wanted else {})


def _gru(steps: _Steps) -> dict[int, str]:
    """h = (1 - z) n + z h before; n = g(x_n + r (R_n h + b)), or g(x_n + R_n (r h)) without a bias b."""
    call, (f, g) = steps.call, steps.op.functions
    x, bias = steps.turned(call.node.inputs[0]), steps.operand("bias")
    h = steps.before(steps.turned(call.node.output), steps.operand("h"))
    both = call.binary("add", steps.part(x, 0, 2), steps.products(h, steps.weights(0, 2)))
    z, reset = (steps.gate(steps.part(both, k), f) for k in (0, 1))
    if bias:
        product = call.binary("add", steps.products(h, steps.weights(2, 1)), bias)
        left, held = call.binary("mul", reset.value, product), product
    else:
        held = call.binary("mul", reset.value, h)
        left, product = steps.products(held, steps.weights(2, 1)), h
    fresh = steps.gate(call.binary("add", steps.part(x, 2), left), g)
    slopes = [
        steps.through(call.binary("sub", h, fresh.value), z),
        steps.through(product, reset),
        steps.through(call.binary("sub", call.number(1.0), z.value), fresh),
        z.value,
        reset.value,
    ]
    d, found = steps.back(slopes, steps.turned(call.whole))
    of_gates, of_fresh = steps.part(d, 0, 2), steps.part(d, 2)
    if not bias:
        if 1 in call.wanted:
            parts = steps.weight_gradient(h, of_gates), steps.weight_gradient(held, of_fresh)
            found[1] = call.add(Concat(0), *parts)
        return found
    of_product = call.binary("mul", of_fresh, reset.value)
    if 1 in call.wanted:
        every = call.add(Concat(len(call.shape(d)) - 1), of_gates, of_product)
        found[1] = steps.weight_gradient(h, every)
    return found | {2: steps.summed(of_product)}


def _lstm(steps: _Steps) -> dict[int, str]:
    """c = f c before + i n; h = o out(c). Peepholes add c before to the sums of i and f, c to that of o."""
    call, op = steps.call, steps.op
    (function, fresh, out), peepholes = op.functions, steps.operand("peepholes")
    y = steps.turned(call.node.output)
    c = steps.part(y, 1)
    h, past = steps.before(steps.part(y, 0), steps.operand("h")), steps.before(c, steps.operand("c"))
    total = call.binary("add", steps.turned(call.node.inputs[0]), steps.products(h, call.node.inputs[1]))
    sums, seen = [steps.part(total, k) for k in range(4)], (past, c, past)  # of i, o and f
    peep = [steps.part(peepholes, k) for k in range(3)] if peepholes else []
    for k, weights in enumerate(peep):
        sums[k] = call.binary("add", sums[k], call.binary("mul", weights, seen[k]))
    enter, leave, forget = (steps.gate(sums[k], function) for k in range(3))
    new, shown = steps.gate(sums[3], fresh), steps.gate(c, out, clip=False)
    enters = call.binary("sub", new.value, past) if op.coupled else new.value
    keeps = call.binary("sub", call.number(1.0), enter.value) if op.coupled else forget.value
    none = call.zeros(call.shape(past))
    slopes = [
        steps.through(enters, enter),
        steps.through(shown.value, leave),
        none if op.coupled else steps.through(past, forget),
        steps.through(enter.value, new),
        steps.through(leave.value, shown),
        keeps,
    ]
    for weights, k, into in zip(peep, (0, 1, 2), (5, 4, 5), strict=False):
        slopes[into] = call.binary("add", slopes[into], call.binary("mul", weights, slopes[k]))
    d, found = steps.back(slopes, steps.turned(call.whole))
    if 1 in call.wanted:
        found[1] = steps.weight_gradient(h, d)
    if op.position("peepholes") in call.wanted:
        each = [call.binary("mul", steps.part(d, k), seen[k]) for k in range(3)]
        found[2] = steps.summed(call.add(Concat(len(call.shape(d)) - 1), *each))
    return found
