# SPDX-License-Identifier: Apache-2.0
"""com.microsoft DynamicQuantizeLSTM: input and h are rounded to bytes as they come, weights are of 8 bits.

As ONNX Runtime computes it: the input is rounded by the range of all its elements together, h by its own
range in each step. What is rounded is multiplied as floats, which hold these sums but for their last bits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.converters.recurrent import recurrent_layer
from mmcc.frontend.layouts import plain
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import MICROSOFT, converts
from mmcc.frontend.value import Value, whole
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.reduce import Reduce

LEAST_STEP = 2.0**-100  # for an input that is 0 everywhere
NOTES = "constant weights of 8 bits; sequences of one length"


@converts("DynamicQuantizeLSTM", domain=MICROSOFT, notes=NOTES, ignored=("output_sequence",))
def convert_dynamic_lstm(call: Call) -> tuple[Value, ...]:
    """Weights are [D, inputs, 4 * H] here, with a scale for each direction or each row."""
    weights = [_weights(call, index, 8 + 2 * k) for k, index in enumerate((1, 2))]
    x = _rounded(call.build, call.float_input(0))
    inputs = (x, *weights, *call.inputs[3:8])
    return recurrent_layer(replace(call, inputs=inputs), "lstm", rounded=True)


def _weights(call: Call, index: int, scale_at: int) -> Value:
    """The weights as floats [D, 4 * H, inputs]."""
    w, scale = call.needed(index, "weights"), call.needed(scale_at, "a scale")
    zero = call.constant(scale_at + 1, "a zero point")
    if w.ndim != 3 or w.dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
        raise bad_model("MM104", f"weights of {w.dtype} {list(w.shape)}")
    directions, _, rows = w.shape
    shape = (directions, 1, rows if scale.size == directions * rows else 1)
    numbers = scale, np.zeros(scale.shape, w.dtype) if zero is None else zero
    if any(each.size != directions * shape[2] for each in numbers):
        raise bad_model("MM104", f"scales {list(scale.shape)} for weights {list(w.shape)}")
    scales, zeros = (each.reshape(shape) for each in numbers)
    floats = (w.astype(np.float32) - zeros.astype(np.float32)) * scales
    return call.build.constant(np.ascontiguousarray(floats.transpose(0, 2, 1)))


def _rounded(build: Builder, x: Value) -> Value:
    """x in steps of 1/255 of its range, which includes 0."""
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
    zero = _byte(build, unary(build, Unary("round"), below))
    steps = unary(build, Unary("round"), elementwise(build, Binary("div"), x, step))
    stored = _byte(build, elementwise(build, Binary("add"), steps, zero))
    return elementwise(build, Binary("mul"), elementwise(build, Binary("sub"), stored, zero), step)


def _byte(build: Builder, x: Value) -> Value:
    return unary(build, Unary("clamp", (0.0, 255.0)), x)
