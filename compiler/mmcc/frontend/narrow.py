# SPDX-License-Identifier: Apache-2.0
"""Types that memory holds and nodes do not compute with: floats below 32 bits, integers below 8.

A node whose operands are float16 computes in float32, and its result is rounded once: what converters are
given is wide, and what they make becomes narrow again. What only moves elements leaves the narrow tensor as
it is. Of the other types there are conversions and moves.
"""

from __future__ import annotations

import numpy as np

from mmcc.frontend.broadcasting import unary
from mmcc.frontend.builder import Builder
from mmcc.frontend.call import Call
from mmcc.frontend.problems import unsupported
from mmcc.frontend.schema import Schema
from mmcc.frontend.tensors import FEW_BITS, NARROW, NUMBERS, type_name
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType
from mmcc.ops.elementwise import Cast

CONVERTS = frozenset(("Cast", "CastLike", "DequantizeLinear", "QuantizeLinear"))
MOVES = frozenset(
    (
        *("Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Shape", "Size", "Slice", "Split"),
        *("Squeeze", "Tile", "Transpose", "Unsqueeze"),
    )
)
ORDINARY = 0  # no number of a type in ONNX: nothing is to be done


def widened(build: Builder, operation: str, value: Value | None) -> Value | None:
    """An operand as converters take it; an error where only conversions and moves are known for its type."""
    if value is None:
        return None
    number = build.stored.get(value.tensor, ORDINARY)
    few = number in FEW_BITS and not build.is_constant(value.tensor)
    code = value.dtype.code
    if (few or (code and value.dtype != ElementType.F16)) and operation not in CONVERTS | MOVES:
        name = type_name(number if few else NUMBERS[value.dtype])
        raise unsupported(f"{operation} of {name}; there are conversions and moves of it only", code="MM203")
    if code is None:
        return value
    if value.tensor not in build.wide:
        build.wide[value.tensor] = build.emit(Cast(ElementType.F32), value.tensor).name
    return Value(build.wide[value.tensor], ElementType.F32, value.view, value.axes)


def narrowed(call: Call, given: tuple[Value | None, ...], made: Value, index: int) -> Value:
    """Result `index` of a node, made of wide operands, in the type that it has in the model."""
    saturates = bool(call.integer("saturate", 1)) if call.node.op_type in ("Cast", "CastLike") else True
    asked = call.integer("output_dtype", 0) if call.node.op_type == "DequantizeLinear" else ORDINARY
    return in_type(call.build, asked or result_type(call.build, call.schema, given, index), made, saturates)


def in_type(build: Builder, number: int, made: Value, saturates: bool = True) -> Value:
    """A value in an element type of ONNX's; as it is, if that is an ordinary one."""
    if number in FEW_BITS and made.dtype in (ElementType.I8, ElementType.U8):
        build.stored.setdefault(made.tensor, number)
    if number not in NARROW or made.dtype != ElementType.F32:
        return made
    dtype = NARROW[number]
    for narrow, wide in build.wide.items():
        if wide == made.tensor and build.tensors[narrow].dtype == dtype:
            return Value(narrow, dtype, made.view, made.axes)
    if build.is_constant(made.tensor):
        return rounded_constant(build, made, number, saturates)
    return unary(build, Cast(dtype, saturates), made)


def rounded_constant(build: Builder, x: Value, number: int, saturates: bool = True) -> Value:
    """Constants stay float32, of values that the narrow type has."""
    build.spend(4 * x.size, "Cast")
    with np.errstate(all="ignore"):
        (narrow,) = Cast(NARROW[number], saturates).reference(build.array(x).astype(np.float32))
        value = build.constant(narrow.astype(np.float32))
    build.stored[value.tensor] = number
    return value


def result_type(build: Builder, schema: Schema | None, given: tuple[Value | None, ...], index: int) -> int:
    """ONNX's number of a result's type, if an operand of which the schema says the same has a narrow one."""
    if schema is None:  # of other domains
        return type_of(build, given[0]) if given else ORDINARY
    name = schema.outputs[min(index, len(schema.outputs) - 1)].type_str
    if schema.name == "DequantizeLinear":  # of the scale's type, whatever its version says
        name = schema.inputs[1].type_str
    for k, value in enumerate(given):
        if schema.inputs[min(k, len(schema.inputs) - 1)].type_str == name and value is not None:
            return type_of(build, value)
    return ORDINARY


def is_widened(build: Builder, x: Value) -> bool:
    """Whether the values, float32 here, are of a narrower type in the model."""
    return x.tensor in build.wide.values() or build.stored.get(x.tensor, ORDINARY) in NARROW


def type_of(build: Builder, value: Value | None) -> int:
    """ONNX's number of the type that a value has in the model."""
    if value is None:
        return ORDINARY
    return build.stored.get(value.tensor, NUMBERS[value.dtype])
