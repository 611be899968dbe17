# SPDX-License-Identifier: Apache-2.0
"""What a converter is given: one ONNX node, its operands, and its attributes with the schema's defaults."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field
from math import isinf, isnan
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto

from mmcc.errors import NAME_COLUMNS, printable
from mmcc.frontend.builder import Builder
from mmcc.frontend.problems import bad_model, unsupported
from mmcc.frontend.schema import Schema, checked_node
from mmcc.frontend.tensors import to_array
from mmcc.frontend.value import Value
from mmcc.ir.element_type import ElementType

MAX_LIST = 1024  # numbers in a list that says what to do: shapes, axes, sizes; data may be longer


@dataclass(frozen=True, eq=False)
class Call:
    """One ONNX node to be converted: its operands, and its attributes with the schema's defaults."""

    build: Builder
    node: NodeProto
    version: int  # of the operator set its domain has in this model
    inputs: tuple[Value | None, ...]
    folder: Path
    wanted: frozenset[str]  # values that somebody reads
    schema: Schema | None = None
    attributes: dict[str, AttributeProto] = field(default_factory=dict[str, AttributeProto])
    seen: set[str] = field(default_factory=set[str])  # attributes that the converter asked for

    # operands

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def input(self, index: int) -> Value:
        """An operand that must be there."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise bad_model("MM103", f"operand {index} is missing")
        return value

    def float_input(self, index: int) -> Value:
        """An operand that must be there and be float."""
        value = self.input(index)
        if not value.dtype.is_float:
            raise unsupported(f"operand {index} is {value.dtype.name}; only float is supported", code="MM203")
        return value

    def number_input(self, index: int) -> Value:
        """An operand that must be there and hold numbers."""
        value = self.input(index)
        if value.dtype == ElementType.BOOL:
            raise unsupported(f"operand {index} is bool; only numbers are supported", code="MM203")
        return value

    def constant(self, index: int, what: str) -> NDArray[Any] | None:
        """An operand whose value must be known now, as ONNX has it; None if it is left out."""
        if not self.has(index):
            return None
        value = self.input(index)
        if not self.build.is_constant(value.tensor):
            raise unsupported(f"{what} (operand {index}) is computed at run time")
        return self.build.array(value)

    def needed(self, index: int, what: str) -> NDArray[Any]:
        """A constant operand that must be there."""
        array = self.constant(index, what)
        if array is None:
            raise bad_model("MM103", f"{what} (operand {index}) is missing")
        return array

    def ints_at(self, index: int, what: str) -> list[int] | None:
        """A constant list of integers; None if it is left out."""
        array = self.constant(index, what)
        if array is None:
            return None
        if array.ndim > 1 or array.dtype.kind not in "iu":
            raise bad_model("MM104", f"{what} (operand {index}) is no list of integers")
        return [int(v) for v in _short(array.reshape(-1), f"{what} (operand {index})")]

    def floats_at(self, index: int, what: str) -> list[float]:
        """A constant list of floats; empty if it is left out."""
        array = self.constant(index, what)
        if array is None:
            return []
        if array.size and (array.ndim != 1 or array.dtype.kind != "f"):
            raise bad_model("MM104", f"{what} (operand {index}) is no list of numbers")
        return [float(v) for v in _short(array.reshape(-1), f"{what} (operand {index})")]

    def scalar(self, index: int, what: str) -> float | None:
        """A constant number; None if it is left out."""
        array = self.constant(index, what)
        if array is None:
            return None
        if array.size != 1:
            raise bad_model("MM104", f"{what} (operand {index}) has {array.size} elements, not 1")
        value = array.reshape(-1)[0].item()
        if isnan(value):
            raise bad_model("MM104", f"{what} (operand {index}) is not a number")
        return value

    def is_read(self, output: int) -> bool:
        """True if somebody needs that output."""
        name = self.node.output[output] if output < len(self.node.output) else ""
        return name != "" and name in self.wanted  # one that is left out has no name, as operands that are

    # attributes

    def _attribute(self, name: str, kind: AttributeProto.AttributeType) -> AttributeProto | None:
        self.seen.add(name)
        found = self.attributes.get(name) or self._schema_default(name)
        if found is not None and found.type != kind:
            wanted = AttributeProto.AttributeType.Name(kind)
            raise bad_model("MM103", f"attribute {name} is not of type {wanted}")
        return found

    def _schema_default(self, name: str) -> AttributeProto | None:
        if self.schema is None or name not in self.schema.attributes:
            return None
        default = self.schema.attributes[name].default_value
        return default if default.type else None

    def without_effect(self, *names: str) -> None:
        """Attributes that this node may set, and that change nothing in it."""
        self.seen.update(names)

    def unread(self) -> list[str]:
        """Attributes that the node sets, to something other than the default, and that nobody asked for."""
        return [
            name
            for name, given in self.attributes.items()
            if name not in self.seen and not _equal(given, self._schema_default(name))
        ]

    def integer(self, name: str, default: int | None = None) -> int:
        found = self._attribute(name, AttributeProto.INT)
        return found.i if found is not None else self._default(name, default)

    def number(self, name: str, default: float | None = None) -> float:
        found = self._attribute(name, AttributeProto.FLOAT)
        value = found.f if found is not None else self._default(name, default)
        if isnan(value):
            raise bad_model("MM103", f"attribute {name} is not a number")
        return value

    def any_number(self, name: str, default: float) -> float:
        """A number, or what is none (NaN)."""
        found = self._attribute(name, AttributeProto.FLOAT)
        return default if found is None else found.f

    def finite(self, name: str, default: float | None = None) -> float:
        value = self.number(name, default)
        if isinf(value):
            raise bad_model("MM103", f"attribute {name} is infinite")
        return value

    def integers(self, name: str, most: int = MAX_LIST) -> list[int] | None:
        found = self._attribute(name, AttributeProto.INTS)
        return None if found is None else list(_short(found.ints, f"attribute {name}", most))

    def numbers(self, name: str, most: int = MAX_LIST) -> list[float] | None:
        found = self._attribute(name, AttributeProto.FLOATS)
        return None if found is None else list(_short(found.floats, f"attribute {name}", most))

    def text(self, name: str, default: str | None = None) -> str:
        """A text attribute, which names one of a few choices: in a form that can be shown."""
        found = self._attribute(name, AttributeProto.STRING)
        if found is None:
            return self._default(name, default)
        return printable(found.s[:MAX_LIST].decode("utf-8", "replace"), NAME_COLUMNS)

    def texts(self, name: str, most: int = MAX_LIST) -> list[str] | None:
        """A list of text attributes, in a form that can be shown."""
        found = self._attribute(name, AttributeProto.STRINGS)
        if found is None:
            return None
        some = _short(found.strings, f"attribute {name}", most)
        return [printable(s[:MAX_LIST].decode("utf-8", "replace"), NAME_COLUMNS) for s in some]

    def tensor(self, name: str, *, double: bool = False) -> NDArray[Any] | None:
        """A tensor attribute; float64 becomes float32, unless `double`."""
        found = self._attribute(name, AttributeProto.TENSOR)
        return None if found is None else to_array(found.t, self.folder, double=double)

    def _default(self, name: str, default: Any) -> Any:
        if default is None:
            raise bad_model("MM103", f"attribute {name} is missing")
        return default

    def axis(self, rank: int, default: int | None = None, name: str = "axis") -> int:
        """An axis attribute, counted from the front."""
        return normal_axis(self.integer(name, default), rank)


def _short(values: Sized, what: str, most: int = MAX_LIST) -> Any:
    """A list that is not longer than any operator needs: lists are converted, quoted and searched."""
    if len(values) > most:
        raise bad_model("MM103", f"{what} is a list of {len(values)} numbers; {most} are allowed")
    return values


def _equal(a: AttributeProto, b: AttributeProto | None) -> bool:
    return b is not None and onnx.helper.get_attribute_value(a) == onnx.helper.get_attribute_value(b)


def normal_axis(axis: int, rank: int) -> int:
    """An axis counted from the front; an error if there is none such."""
    if not -rank <= axis < rank:
        raise bad_model("MM104", f"axis {axis} of a tensor of rank {rank}")
    return axis + rank if axis < 0 else axis


def normal_axes(axes: list[int], rank: int) -> list[int]:
    """Axes counted from the front; an error if there is none such, or if two are one."""
    normal = [normal_axis(axis, rank) for axis in axes]
    if len(set(normal)) < len(normal):
        raise bad_model("MM104", f"axes {axes} name one axis twice")
    return normal


def make_call(
    build: Builder,
    node: NodeProto,
    version: int,
    inputs: tuple[Value | None, ...],
    folder: Path,
    wanted: frozenset[str],
) -> Call:
    """A call of a known operator, its operands and attributes checked against the schema."""
    schema, attributes = checked_node(node, version)
    return Call(build, node, version, inputs, folder, wanted, schema, attributes)
