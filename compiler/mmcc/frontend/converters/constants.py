# SPDX-License-Identifier: Apache-2.0
"""ONNX operators whose result is known once shapes are: they become constants."""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from mmcc.frontend.builder import MAX_ELEMENTS
from mmcc.frontend.call import Call
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.registry import converts
from mmcc.frontend.tensors import DTYPES, NARROW, type_name
from mmcc.frontend.value import Value

MAX_RANGE = 2**22


@converts("Constant", notes="tensors and numbers; not strings, not sparse")
def convert_constant(call: Call) -> Value:
    """A constant in any of its forms."""
    if len(call.attributes) != 1:
        raise bad_model("MM103", f"Constant has {len(call.attributes)} attributes, not 1")
    (form,) = call.attributes
    match form:
        case "value":
            array = call.tensor("value")
        case "value_float":
            array = np.array(call.number("value_float"), np.float32)
        case "value_int":
            array = np.array(call.integer("value_int"), np.int64)
        case "value_floats":
            array = np.array(call.numbers("value_floats", most=MAX_ELEMENTS), np.float32)
        case "value_ints":
            array = np.array(call.integers("value_ints", most=MAX_ELEMENTS), np.int64)
        case _:
            raise unsupported(f"a constant in the form {form}")
    assert array is not None
    made = call.build.constant(array)
    if form == "value" and call.attributes[form].t.data_type not in DTYPES:
        call.build.stored[made.tensor] = call.attributes[form].t.data_type
    return made


@converts("ConstantOfShape", notes="of a constant shape")
def convert_constant_of_shape(call: Call) -> Value:
    """A tensor full of one number."""
    shape = call.ints_at(0, "the shape") or []
    value = call.tensor("value") if "value" in call.attributes else np.zeros(1, np.float32)
    assert value is not None
    if value.size != 1 or any(extent < 0 for extent in shape):
        raise bad_model("MM104", f"cannot fill the shape {shape} with {value.size} elements")
    call.build.spend(prod(shape) * value.itemsize, f"ConstantOfShape to {shape}")
    return call.build.constant(np.full(shape, value.reshape(()), value.dtype))


@converts("Shape", notes="a constant: shapes are static")
def convert_shape(call: Call) -> Value:
    """The shape of a tensor, or a part of it."""
    shape = call.input(0).shape
    start, end = call.integer("start", 0), call.integer("end", len(shape))
    return call.build.constant(np.array(shape[start:end], np.int64))


@converts("Size", notes="a constant: shapes are static")
def convert_size(call: Call) -> Value:
    """The number of elements."""
    return call.build.constant(np.array(call.input(0).size, np.int64))


@converts("Range", notes="constant start, limit and delta; not float16, bfloat16")
def convert_range(call: Call) -> Value:
    """Numbers from start to limit."""
    kind = call.build.stored.get(call.input(0).tensor)
    if kind is not None and kind in NARROW:  # held as float32, whose sums are others
        raise unsupported(f"Range of {type_name(kind)}", "a Range of float32", "MM203")
    names = ("start", "limit", "delta")
    start, limit, delta = (call.scalar(k, name) for k, name in enumerate(names))
    if start is None or limit is None or not delta:
        raise bad_model("MM104", f"Range from {start} to {limit} by {delta}")
    steps = (limit - start) / delta
    if not abs(steps) < MAX_RANGE:
        raise bad_model("MM105", f"Range from {start} to {limit} by {delta} has too many elements")
    count = max(0, ceil(steps))
    dtype = call.input(0).dtype.numpy
    return call.build.constant((start + np.arange(count) * delta).astype(dtype))
