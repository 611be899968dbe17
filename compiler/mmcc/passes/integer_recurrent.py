# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers in integers: a cell together with the layer that multiplies its input by weights."""

from __future__ import annotations

from math import frexp, isinf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Node
from mmcc.ops.conv import Conv
from mmcc.ops.dense import Dense
from mmcc.ops.recurrent import CellFunction, Recurrent
from mmcc.ops.recurrent_int8 import CELL_BITS, CELL_MOST, GATE_BITS, ONE, RecurrentInt8
from mmcc.ops.requantize import multiplier_and_shift
from mmcc.ops.window import Window
from mmcc.passes.draft import Draft
from mmcc.passes.fold import constant_value
from mmcc.passes.integer_layers import layer_weights
from mmcc.passes.quantized import INT32, Form, Source, StaysFloat, Target, real, source_of

Array = NDArray[Any]
HIGH = 33  # least shift of the result: only the high word of its product counts
SUM_BITS = GATE_BITS + 32  # of a gate's sum before it is divided by 2^32
MOST_SUM = 2.0**60  # of each of the three that are added to such a sum
USUAL = {"rnn": ("tanh",), "gru": ("sigmoid", "tanh"), "lstm": ("sigmoid", "tanh", "tanh")}


def recurrent_form(draft: Draft, node: Node, target: Target) -> Form:
    """The cell and the layer before it as one op; raises StaysFloat."""
    op = node.op
    assert isinstance(op, Recurrent)
    _check(op)
    layer = draft.producer.get(draft.now(node.inputs[0]))
    if layer is None or not _is_product(layer):
        raise StaysFloat("its input is not multiplied by weights just before it")
    x = source_of(draft, layer.inputs[0])
    w, w_scales = _weights(draft, layer.inputs[1])
    r, r_scales = _weights(draft, node.inputs[1])
    w = w.reshape(len(w), -1)
    bias = _known(draft, layer.inputs[2], "bias")
    scales = real(x.quant.scale) * w_scales, r_scales / ONE
    left, numbers = _numbers(x, w, r, scales, bias)
    inner = op.position("bias")
    if inner is not None:
        numbers = _with_inner(numbers, r.shape[1], _known(draft, node.inputs[inner], "bias"))
    begin = {name: node.inputs[at] for name in ("h", "c") if (at := op.position(name)) is not None}
    multiplier, shift = multiplier_and_shift(1 / (float(ONE) ** 2 * real(target.quant.scale)))
    names: tuple[Literal["h", "c"], ...] = tuple(begin)  # type: ignore[assignment]
    if shift < HIGH:
        raise StaysFloat("its output's scale is too small")
    form = RecurrentInt8(
        *(op.cell, x.quant.zero_point, left, multiplier, shift, target.quant.zero_point),
        *(target.low, target.high, names, (), op.backward, inner is not None),
    )
    constants = {"weights": w, "recurrence": r, "numbers": numbers}
    constants |= {name: _state(name, _known(draft, begin[name], f"initial {name}")) for name in begin}
    return form, (
        x.name,
        *(draft.constant(data, f"{node.output}_{what}") for what, data in constants.items()),
    )


def _check(op: Recurrent) -> None:
    """Only what gates in integers are made for."""
    if op.functions != tuple(CellFunction(name) for name in USUAL[op.cell]):
        raise StaysFloat("its activations are not the usual ones")
    if not isinf(op.clip) or op.coupled:
        raise StaysFloat("it clips its gates, or couples them")
    if "peepholes" in op.operands or "lengths" in op.operands:
        raise StaysFloat("it has peepholes, or lengths of sequences")
    if op.last:
        raise StaysFloat("what it holds after the last step is needed in float")


def _is_product(node: Node) -> bool:
    match node.op:
        case Dense():
            return node.op.activation is None
        case Conv():
            return node.op.activation is None and node.op.groups == 1 and node.op.window == Window((1, 1))
        case _:
            return False


def _weights(draft: Draft, name: str) -> tuple[Array, Array]:
    """int8 weights and a scale for each row."""
    w, zero, scales = layer_weights(draft, name)
    if zero:
        raise StaysFloat("its weights do not fit int8 without a zero point")
    return w, np.broadcast_to(scales, (len(w),))


def _known(draft: Draft, name: str, what: str) -> NDArray[np.float64]:
    data = constant_value(draft, name)
    if data is None:
        raise StaysFloat(f"its {what} is not constant")
    return data.astype(np.float64)


def _numbers(x: Source, w: Array, r: Array, scales: tuple[Array, Array], bias: Array) -> tuple[int, Array]:
    """Bits by which sums over x are shifted, and scales and biases of all gates, which fit the operator."""
    of_x, of_h = (scale * 2.0**SUM_BITS for scale in scales)
    left = max(0, frexp(float(of_x.max()))[1] - 31)
    rows = [np.rint(each).astype(np.float64) for each in (of_x / 2.0**left, of_h)]
    far = max(127 - x.quant.zero_point, x.quant.zero_point + 128)
    sums = [np.abs(w.astype(np.int64)).sum(1) * far << left, np.abs(r.astype(np.int64)).sum(1) * ONE]
    parts = [*(total * row for total, row in zip(sums, rows, strict=True)), np.abs(bias) * 2.0**SUM_BITS]
    if max(float(total.max()) for total in sums) > INT32:
        raise StaysFloat("its sums may not fit 32 bits")
    if max(float(row.max()) for row in rows) > INT32 or max(float(part.max()) for part in parts) > MOST_SUM:
        raise StaysFloat("its scales or biases are too large for its gates")
    return left, np.stack([*rows, _biases(bias)]).astype(np.int32)


def _biases(bias: Array) -> Array:
    """In units of gates' sums, one half larger, since the rest of a sum is rounded down."""
    return np.rint(bias * 2.0**GATE_BITS + 0.5)


def _with_inner(numbers: Array, units: int, bias: Array) -> Array:
    """The numbers of a GRU that resets after its product: what h makes of the new value is apart."""
    if np.abs(bias).max(initial=0) * 2.0**SUM_BITS > MOST_SUM:
        raise StaysFloat("its scales or biases are too large for its gates")
    inner = numbers[:, -units:].copy()
    inner[0], inner[2] = 0, _biases(bias)
    return np.concatenate((numbers, inner), axis=1)


def _state(name: str, value: NDArray[np.float64]) -> Array:
    """h or c before the first step; what is clipped is less than half a step off."""
    one, most, dtype = (ONE, ONE, np.int16) if name == "h" else (2.0**CELL_BITS, CELL_MOST, np.int32)
    exact = np.rint(value * one)
    if not np.all(np.abs(exact) <= most):  # NaN is not within it, either
        raise StaysFloat(f"its initial {name} goes up to {np.abs(value).max():g}, integers to {most / one:g}")
    return np.minimum(exact, most - 1).astype(dtype)
