# SPDX-License-Identifier: Apache-2.0
"""Calls of functions that the user has written: a struct with what the op says, and where its tensors are.

`templates/handoff.h.j2` declares the struct and the function. Members are the fields of the op's dataclass,
so an op needs nothing here to be handed off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.handoff import Handoff
from mmcc.ir.op import Op
from mmcc.ir.program import Field, KernelUse
from mmcc.ops.activation import Clamp, Leaky
from mmcc.ops.conv import Conv, ConvInt8
from mmcc.ops.dense import Dense, DenseInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, DenseInt8ToFloat

if TYPE_CHECKING:
    from mmcc.kernels.select import Operand, Site

# the axes of a layer's weights, as the op has them: filters, rows and columns of the window, channels
WEIGHT_AXES: dict[type, str] = {
    Conv: "OHWI",
    ConvInt8: "OHWI",
    ConvInt8ToFloat: "OHWI",
    Dense: "OI",
    DenseInt8: "OI",
    DenseInt8ToFloat: "OI",
}
OPERANDS = ("x", "weights", "bias", "multiplier", "shift")  # of these
C_INTEGERS = 2**31


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the struct: how it is declared, and its value as C, with `{p}` for the model's prefix."""

    declared: str
    value: str


class NoForm(Exception):
    """A field of an op that has no form in C; the text says which."""


def handed_off(op: Op, site: Site, handoff: Handoff) -> KernelUse:
    """The call of the user's function for one node. Raises NoForm."""
    made: list[tuple[Member, tuple[tuple[str, Field], ...]]] = []
    for k, operand in enumerate(site.inputs):
        name = _name(op, k)
        if operand.data is None:
            made.append(_tensor(name, f"x{k}", operand))
        else:
            made.append(_constant(site, handoff, name, k, _packed(op, k, operand.data, handoff)))
    made.append(_tensor("y", "y", site.output))
    if handoff.scratch:
        work = "memory[layer->work.memory] + layer->work.offset"
        made.append((Member("void *scratch", work), (("work", site.work()),)))
    made += list(_numbers(op))
    made.append((Member("int32_t first_row", "row_begin"), ()))
    made.append((Member("int32_t end_row", "row_end"), ()))
    members = tuple((member.declared, member.value) for member, _ in made)
    options = (("function", handoff.function), ("op", type(op).__name__), ("members", members))
    return KernelUse("handoff", options, tuple(field for _, some in made for field in some), len(site.inputs))


def _name(op: Op, k: int) -> str:
    if type(op) in WEIGHT_AXES and k < len(OPERANDS):
        return OPERANDS[k]
    return f"x{k}"


def _tensor(name: str, field: str, operand: Operand) -> tuple[Member, tuple[tuple[str, Field], ...]]:
    rows, cols, channels = operand.geometry
    sizes = (("rows", rows), ("cols", cols), ("channels", channels))
    own = ", ".join(f"layer->{field}_{what}" for what, _ in sizes)
    base = f"memory[layer->{field}.memory] + layer->{field}.offset"
    steps = f"layer->{field}.row_stride, layer->{field}.col_stride, layer->{field}.rows"
    value = f"{{{{{base}, {own}, {steps}}}}}"  # braces doubled: the template formats it
    numbers = tuple((f"{field}_{what}", size) for what, size in sizes)
    return Member(f"mmcc_tensor {name}", value), ((field, operand.where()), *numbers)


def _constant(
    site: Site, handoff: Handoff, name: str, k: int, data: NDArray[Any]
) -> tuple[Member, tuple[tuple[str, Field], ...]]:
    ctype = site.inputs[k].dtype.ctype
    constant = site.keep(f"operand{k}", data, max(handoff.align, data.dtype.itemsize))
    value = f"(const {ctype} *){{p}}_constant(memory, layer->constant{k})"
    return Member(f"const {ctype} *{name}", value), ((f"constant{k}", constant),)


def _packed(op: Op, k: int, data: NDArray[Any], handoff: Handoff) -> NDArray[Any]:
    """Weights with their axes in the order asked for."""
    axes = WEIGHT_AXES.get(type(op), "")
    if k != 1 or not handoff.weights or not axes:
        return data
    return np.ascontiguousarray(data.transpose([axes.index(axis) for axis in handoff.weights]))


def _numbers(op: Any) -> Iterator[tuple[Member, tuple[tuple[str, Field], ...]]]:
    for each in fields(op):
        value = getattr(op, each.name)
        if each.name == "activation":
            yield from _activation(value)
        elif isinstance(value, ElementType):
            yield _number(each.name, value.name)
        elif is_dataclass(value):
            yield from _numbers(value)
        elif value is not None and value != ():
            yield _number(each.name, value)


def _activation(value: Any) -> Iterator[tuple[Member, tuple[tuple[str, Field], ...]]]:
    """min(max(x, low), high) of x where that is not negative, and of slope * x where it is."""
    low, high, slope = -inf, inf, 1.0
    match value:
        case None:
            pass
        case Clamp():
            low, high = value.low, value.high
        case Leaky():
            slope = value.slope
        case _:
            raise NoForm(f"activation {value}")
    yield _number("low", low)
    yield _number("high", high)
    yield _number("slope", slope)


def _number(name: str, value: Any) -> tuple[Member, tuple[tuple[str, Field], ...]]:
    match value:
        case bool() | int() if abs(value) < C_INTEGERS:
            return Member(f"int32_t {name}", f"layer->{name}"), ((name, int(value)),)
        case float():
            return Member(f"float {name}", f"layer->{name}"), ((name, value),)
        case str() if value.isascii() and value.isprintable() and not set(value) & {'"', "\\", "{", "}"}:
            return Member(f"const char *{name}", f'"{value}"'), ()
        case Enum():
            return Member(f"const char *{name}", f'"{value.name}"'), ()
        case tuple() if value:
            return _list(name, cast(tuple[Any, ...], value))
        case _:
            raise NoForm(f"{name}={value}")


def _list(name: str, values: tuple[Any, ...]) -> tuple[Member, tuple[tuple[str, Field], ...]]:
    floats = all(isinstance(value, float) for value in values)
    if not floats and not all(isinstance(value, int) and abs(value) < C_INTEGERS for value in values):
        raise NoForm(f"{name}={values}")
    names = [f"{name}_{k}" for k in range(len(values))]
    ctype = "float" if floats else "int32_t"
    member = Member(f"{ctype} {name}[{len(values)}]", f"{{{{{', '.join(f'layer->{n}' for n in names)}}}}}")
    return member, tuple(zip(names, values, strict=True))
