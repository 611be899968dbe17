# SPDX-License-Identifier: Apache-2.0
"""Values of the IR as text, which `mmcc.ir.parse` reads back.

    graph "g" {
      input %x: i8[4,4,2] Quant(scale=0.05, zero_point=-3)
      constant %w: i8[2,1,1,2] = [1, -2, 3, 4]
      %y: i8[4,4,2] = Name(field=value, ...)(%x, %w)
      output %y
    }

Fields that have their default are left out. Tuples are in brackets, strings are those of JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, cast

import numpy as np

from mmcc.ir.element_type import ElementType
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor

PLAIN_NAME = re.compile(r"[A-Za-z0-9_./-]+")


class Written:
    """A value whose text `str` writes: a graph."""


def value_text(value: Any) -> str:
    """A field's value: None, number, string, tuple, set, element type, enum's member, graph, or dataclass.

    A dataclass is without fields that are not part of its `repr`.
    """
    if isinstance(value, Written):
        return str(value)
    if isinstance(value, np.generic):
        return value_text(value.item())
    if isinstance(value, (tuple, frozenset)):
        items = [value_text(each) for each in cast(Iterable[Any], value)]
        return list_text(sorted(items) if isinstance(value, frozenset) else items)
    if isinstance(value, (ElementType, Enum)):
        return value.name
    if isinstance(value, str):
        return string_text(value)
    return repr(value) if value is None or isinstance(value, (int, float)) else call_text(value, {})


def call_text(value: Any, known: dict[str, Any]) -> str:
    """A dataclass as `Name(field=value, ...)`, without fields that have their default or are `known` so."""
    given = [
        f"{each.name}={value_text(getattr(value, each.name))}"
        for each in fields(value)
        if each.repr and not _is_same(getattr(value, each.name), known.get(each.name, each.default))
    ]
    return f"{type(value).__name__}({', '.join(given)})"


def _is_same(value: Any, default: Any) -> bool:
    """Equal, and of one type: 0 and 0.0 are two texts."""
    return default is not MISSING and type(value) is type(default) and value == default


def list_text(items: Iterable[str]) -> str:
    """Items in brackets."""
    return f"[{', '.join(items)}]"


def string_text(text: str) -> str:
    """A string in quotes, in ASCII, whatever is in it."""
    return json.dumps(text)


def name_text(name: str) -> str:
    """The name of a tensor; in quotes where it has signs that mean something."""
    return f"%{name}" if PLAIN_NAME.fullmatch(name) else f"%{string_text(name)}"


def names_text(names: Iterable[str]) -> str:
    """Names of tensors, with commas between them."""
    return ", ".join(name_text(name) for name in names)


def tensor_text(tensor: Tensor) -> str:
    """The definition of a tensor: name, type, shape, and what its integers mean."""
    quant = f" {value_text(tensor.quant)}" if tensor.quant is not None else ""
    return f"{name_text(tensor.name)}: {tensor.dtype}[{','.join(map(str, tensor.shape))}]{quant}"


def plain_port(tensor: Tensor) -> Port:
    """The port of a tensor that ONNX sees as C does: a text does not say it."""
    return Port(tensor.name, tensor.name, tensor.shape, tensor.dtype, tuple(range(len(tensor.shape))))


def port_text(port: Port, tensor: Tensor) -> str:
    """What follows the tensor of a port: a space and the fields in which it is not plain, if any."""
    plain = plain_port(tensor)
    known = {each.name: getattr(plain, each.name) for each in fields(Port)}
    return "" if port == plain else f" {call_text(port, known)}"
