# SPDX-License-Identifier: Apache-2.0
"""com.microsoft DynamicQuantizeLSTM: input and h are rounded to bytes as they come, weights are of 8 bits.

As ONNX Runtime computes it: the input is rounded by the range of all its elements together, h by its own
range in each step. Products are sums of integers, and weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.integer_sums import convert_matmul_integer
from mmcc.frontend.converters.recurrent import recurrent_layer
from mmcc.frontend.layouts import arranged, plain
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import MICROSOFT, converts
from mmcc.frontend.value import Value, whole
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Binary, Cast, Unary
from mmcc.ops.quantize import QuantizeBy
from mmcc.ops.reduce import Reduce

Array = NDArray[Any]
LEAST_STEP = 2.0**-100  # for an input that is 0 everywhere
NOTES = "constant weights of 8 bits, which stay integers; sequences of one length"


@converts("DynamicQuantizeLSTM", domain=MICROSOFT, notes=NOTES, ignored=("output_sequence",))
def convert_dynamic_lstm(call: Call) -> tuple[Value, ...]:
    """Weights are [D, inputs, 4 * H] here, with a scale for each direction or each row."""
    w, r = (_weights(call, index, 8 + 2 * k) for k, index in enumerate((1, 2)))
    x = call.float_input(0)
    forms = (call.build.constant(np.ascontiguousarray(each.stored.transpose(0, 2, 1))) for each in (w, r))
    sums = _Rounded(call, *_to_bytes(call.build, x), w, r)
    return recurrent_layer(replace(call, inputs=(x, *forms, *call.inputs[3:8])), "lstm", sums)


@dataclass(frozen=True, eq=False)
class _Weights:
    """Of all directions: stored [D, inputs, rows] in int8 or uint8, scales and zero points [D, rows]."""

    stored: Array
    scales: Array
    zeros: Array


def _weights(call: Call, index: int, scale_at: int) -> _Weights:
    stored, scale = call.needed(index, "weights"), call.needed(scale_at, "a scale")
    zero = call.constant(scale_at + 1, "a zero point")
    if stored.ndim != 3 or stored.dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
        raise bad_model("MM104", f"weights of {stored.dtype} {list(stored.shape)}")
    directions, _, rows = stored.shape
    given = directions, rows if scale.size == directions * rows else 1
    numbers = scale, np.zeros(scale.shape, stored.dtype) if zero is None else zero
    if any(each.size != directions * given[1] for each in numbers):
        raise bad_model("MM104", f"scales {list(scale.shape)} for weights {list(stored.shape)}")
    if numbers[1].dtype != stored.dtype:
        raise bad_model("MM104", f"a zero point of {numbers[1].dtype} for weights of {stored.dtype}")
    scales, zeros = (np.broadcast_to(each.reshape(given), (directions, rows)) for each in numbers)
    return _Weights(stored, scales, zeros)


@dataclass(frozen=True, eq=False)
class _Rounded:
    """The sums of a layer: its input as bytes, their step and zero point, and the weights."""

    call: Call
    x: Value
    step: Value
    zero: Value
    w: _Weights
    r: _Weights

    def product(self, k: int, bias: Array, axes: Sequence[tuple[int, ...]]) -> str:
        """The input times the weights of direction k, for all steps."""
        build, w = self.call.build, self.w
        operands = self.x, _constant(build, w.stored[k]), self.zero, _constant(build, w.zeros[k])
        exact = convert_matmul_integer(replace(self.call, inputs=operands))
        sums = unary(build, Cast(ElementType.F32), exact)
        steps = elementwise(build, Binary("mul"), self.step, _constant(build, w.scales[k]))
        scaled = elementwise(build, Binary("mul"), sums, steps)
        return arranged(build, elementwise(build, Binary("add"), scaled, _constant(build, bias)), axes)

    def recurrence(self, k: int) -> tuple[str, dict[str, str]]:
        """The recurrent weights of direction k as int8, and the operands of the cell that belong to them."""
        build, stored, zeros = self.call.build, self.r.stored[k].T, self.r.zeros[k].astype(np.int32)
        if stored.dtype == np.uint8:
            stored, zeros = (stored ^ np.uint8(128)).view(np.int8), zeros - 128
        operands = {"scales": _constant(build, self.r.scales[k], ".scales").tensor}
        if zeros.any():
            operands["zeros"] = _constant(build, zeros, ".zeros").tensor
        return _constant(build, stored, ".recurrence").tensor, operands


def _constant(build: Builder, array: Array, what: str = "") -> Value:
    return build.constant(np.ascontiguousarray(array), f"{build.hint}{what}" if what else None)


def _to_bytes(build: Builder, x: Value) -> tuple[Value, Value, Value]:
    """x in steps of 1/255 of its range, which includes 0, as uint8; the step, float32; the zero point."""
    axes = tuple(range(x.rank))
    tensor = plain(build, x)
    none, most = (build.constant(np.array(value, np.float32)) for value in (0, 255))
    least, largest = (
        elementwise(build, Binary(name), whole(build.emit(Reduce(name, axes), tensor), axes), none)
        for name in ("min", "max")
    )
    span = elementwise(build, Binary("div"), elementwise(build, Binary("sub"), largest, least), most)
    step = elementwise(build, Binary("max"), span, build.constant(np.array(LEAST_STEP, np.float32)))
    below = elementwise(build, Binary("sub"), none, elementwise(build, Binary("div"), least, step))
    zero = unary(build, Unary("clamp", (0.0, 255.0)), unary(build, Unary("round"), below))
    stored = elementwise(build, QuantizeBy(ElementType.U8), x, step, zero)
    return stored, step, unary(build, Cast(ElementType.U8), zero)
